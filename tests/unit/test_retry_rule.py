"""Rules of the user: they come before the tables, and after an error's own word."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from tests.rows import rows

from redrive.errors import PermanentError, TransientError
from redrive.retry import Classifier, Kind, Rule


class StockError(ValueError):
    pass


class SoldOutError(StockError):
    pass


def _status(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://localhost")
    return httpx.HTTPStatusError("told", request=request, response=httpx.Response(status))


def _caused(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@rows(
    ("rule", "exc"),
    [
        (Rule(Kind.TRANSIENT, error=StockError), StockError()),
        (Rule(Kind.TRANSIENT, error=StockError), SoldOutError()),
        (Rule(Kind.TRANSIENT, error=f"{__name__}.StockError"), SoldOutError()),
        (Rule(Kind.TRANSIENT, error="httpx.HTTPStatusError"), _status(404)),
        (Rule(Kind.TRANSIENT, error="builtins.ValueError"), ValueError()),
        (Rule(Kind.TRANSIENT, status=404), _status(404)),
        (Rule(Kind.TRANSIENT, message=r"stock (is )?low"), ValueError("the stock is low")),
        (Rule(Kind.TRANSIENT, cause=KeyError), _caused(ValueError(), KeyError())),
        (Rule(Kind.TRANSIENT, error=ValueError, message="low"), ValueError("low")),
    ],
    ids=str,
)
def test_an_error_that_fits_gets_the_rules_kind(rule: Rule, exc: Exception) -> None:
    failure = Classifier(rules=(rule,)).classify(exc)

    assert failure.kind is Kind.TRANSIENT
    assert failure.rule == f"rule:{rule}"


@pytest.mark.parametrize(
    ("rule", "exc"),
    [
        (Rule(Kind.TRANSIENT, error=SoldOutError), StockError()),
        (Rule(Kind.TRANSIENT, error="other.StockError"), StockError()),
        (Rule(Kind.TRANSIENT, status=404), _status(403)),
        (Rule(Kind.TRANSIENT, message="^low"), ValueError("the stock is low")),
        (Rule(Kind.TRANSIENT, cause=KeyError), KeyError()),
        (Rule(Kind.TRANSIENT, error=ValueError, message="low"), ValueError("high")),
    ],
    ids=str,
)
def test_an_error_that_fits_in_part_does_not(rule: Rule, exc: Exception) -> None:
    assert Classifier(rules=(rule,)).classify(exc).kind is Kind.PERMANENT


def test_the_first_rule_that_fits_decides() -> None:
    classifier = Classifier(
        rules=(
            Rule(Kind.TIMEOUT, message="slow", name="slow service"),
            Rule(Kind.TRANSIENT, error=ValueError),
        )
    )

    assert classifier.classify(ValueError("slow")).rule == "rule:slow service"
    assert classifier.classify(ValueError("down")).kind is Kind.TRANSIENT


def test_a_rule_may_fit_the_cause_of_a_wrapper() -> None:
    classifier = Classifier(rules=(Rule(Kind.TRANSIENT, error=StockError),))

    assert classifier.classify(_caused(RuntimeError(), StockError())).kind is Kind.TRANSIENT


def test_an_errors_own_word_comes_before_a_rule() -> None:
    classifier = Classifier(rules=(Rule(Kind.PERMANENT, error=Exception),))

    assert classifier.classify(TransientError()).kind is Kind.TRANSIENT


def test_a_rule_may_say_how_long_to_wait_when_the_error_does_not() -> None:
    classifier = Classifier(rules=(Rule(Kind.RATE_LIMITED, error=StockError, retry_after=12),))

    assert classifier.classify(StockError()).retry_after == 12


def test_an_error_that_cannot_be_printed_fits_no_message() -> None:
    class MuteError(ValueError):
        def __str__(self) -> str:
            raise RuntimeError

    classifier = Classifier(rules=(Rule(Kind.TRANSIENT, message="."),))

    assert classifier.classify(MuteError()).kind is Kind.PERMANENT


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Rule(Kind.TRANSIENT), "needs a condition"),
        (lambda: Rule(Kind.TRANSIENT, message="("), "not a regular expression"),
        (lambda: Rule(Kind.TRANSIENT, status=500, retry_after=-1), "^retry_after"),
        (lambda: Rule("sometimes", status=500), "sometimes"),  # type: ignore[arg-type] # the mistake
    ],
)
def test_a_rule_that_cannot_work_is_refused(make: Callable[[], Rule], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()


def test_a_permanent_mark_is_kept_over_a_rule_for_its_message() -> None:
    classifier = Classifier(rules=(Rule(Kind.TRANSIENT, message="no"),))

    assert classifier.classify(PermanentError("no")).kind is Kind.PERMANENT
