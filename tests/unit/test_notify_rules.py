from __future__ import annotations

from dataclasses import replace

import pytest

from redrive.notify.notice import NoticeCause
from redrive.notify.rules import NotifyRule, Routing

CAUSE = NoticeCause("billing-eu", "transient", "retries_exhausted", "v1:5d41")


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (NotifyRule(("a",)), True),
        (NotifyRule(("a",), workflow="billing-*"), True),
        (NotifyRule(("a",), workflow="billing"), False),
        (NotifyRule(("a",), kind="t[ri]*", reason="retries_*", fingerprint="v1:5d41"), True),
        (NotifyRule(("a",), workflow="billing-*", kind="permanent"), False),
        (NotifyRule(("a",), reason="Retries_*"), False),
    ],
)
def test_a_rule_fits_when_all_its_patterns_do(rule: NotifyRule, fits: bool) -> None:  # noqa: FBT001 - a parameter
    assert rule.fits(CAUSE) is fits


def test_without_rules_every_channel_is_told() -> None:
    assert Routing(["a", "b"]).of(CAUSE) == {"a": 1, "b": 1}


def test_a_channel_that_a_rule_names_is_told_only_what_its_rules_fit() -> None:
    routing = Routing(["all", "pager"], [NotifyRule(("pager",), workflow="billing-*")])

    assert routing.of(CAUSE) == {"all": 1, "pager": 1}
    assert routing.of(replace(CAUSE, workflow="reports")) == {"all": 1}


def test_of_several_rules_that_fit_the_lowest_count_holds() -> None:
    rules = [NotifyRule(("pager",), count=50), NotifyRule(("pager",), kind="transient", count=10)]

    assert Routing(["pager"], rules).of(CAUSE) == {"pager": 10}


def test_a_rule_without_channels_silences_and_ends_the_reading() -> None:
    rules = [
        NotifyRule(("pager",), kind="transient"),
        NotifyRule((), workflow="billing-*"),
        NotifyRule(("b",)),
    ]
    routing = Routing(["all", "pager", "b"], rules)

    assert routing.of(CAUSE) == {"pager": 1}
    assert routing.of(replace(CAUSE, kind="permanent")) is None
    assert routing.of(replace(CAUSE, workflow="reports")) == {"all": 1, "pager": 1, "b": 1}
