"""What would follow an error: the same choices as `decide` makes, one after the other."""

from __future__ import annotations

import pytest

from redrive.retry import Decorrelated, Failure, Fixed, Kind, Reason, RetryConfig
from redrive.retry.outlook import Outlook, OutlookWait, outlook


def _rounded(found: Outlook) -> list[tuple[float, float]]:
    return [(round(wait.least_s, 6), round(wait.most_s, 6)) for wait in found.waits]


def test_the_waits_are_between_the_ends_of_the_jitter() -> None:
    found = outlook(Failure(Kind.TRANSIENT), policy=RetryConfig(max_delay=3.0))

    assert _rounded(found) == [(0.5, 1.0), (1.0, 2.0), (1.5, 3.0)]
    assert found.end.reason is Reason.RETRIES_EXHAUSTED
    assert "4 of 4 attempts" in found.end.why


def test_a_wait_without_jitter_is_exact() -> None:
    policy = RetryConfig(max_retries=2, backoff=Fixed(7.0), jitter=False)

    assert outlook(Failure(Kind.TIMEOUT), policy=policy).waits == (
        OutlookWait(7.0, 7.0),
        OutlookWait(7.0, 7.0),
    )


def test_a_wide_spread_begins_at_the_first_delay() -> None:
    policy = RetryConfig(max_retries=2, backoff=Decorrelated(1.0, maximum=60.0))

    assert _rounded(outlook(Failure(Kind.TIMEOUT), policy=policy)) == [(1.0, 3.0), (1.0, 9.0)]


def test_what_a_service_asked_for_is_waited_at_least() -> None:
    failure = Failure(Kind.RATE_LIMITED, retry_after=20.0)

    assert _rounded(outlook(failure, policy=RetryConfig(max_retries=1))) == [(20.0, 21.0)]


def test_a_limit_of_the_whole_ends_it_before_the_retries_do() -> None:
    policy = RetryConfig(jitter=False, total_limit=6.0)

    found = outlook(Failure(Kind.TRANSIENT), policy=policy)

    assert _rounded(found) == [(1.0, 1.0), (2.0, 2.0)]
    assert found.end.reason is Reason.DEADLINE


@pytest.mark.parametrize(
    ("kind", "reason", "ends"),
    [
        (Kind.PERMANENT, None, Reason.PERMANENT),
        (Kind.PERMANENT, Reason.GRAPH_CHANGED, Reason.GRAPH_CHANGED),
        (Kind.POISON, None, Reason.UNREADABLE),
        (Kind.CANCELLED, None, Reason.PERMANENT),
    ],
)
def test_a_kind_that_is_never_retried_ends_at_once(
    kind: Kind, reason: Reason | None, ends: Reason
) -> None:
    found = outlook(Failure(kind), policy=RetryConfig(), reason=reason)

    assert found.waits == ()
    assert found.end.reason is ends
