"""What follows a failed attempt."""

from __future__ import annotations

import math

import pytest

from redrive.retry import Failure, GiveUp, Kind, Reason, Retry, RetryConfig, decide

PLAIN = RetryConfig(jitter=False)
TRANSIENT = Failure(Kind.TRANSIENT)


def test_a_transient_failure_is_retried_after_the_policys_delay() -> None:
    decision = decide(TRANSIENT, failed_attempts=3, policy=PLAIN, roll=0.5)

    assert decision == Retry(4.0)


@pytest.mark.invariant("P5")
def test_attempts_are_one_more_than_retries() -> None:
    last = decide(TRANSIENT, failed_attempts=3, policy=PLAIN, roll=0.5)
    over = decide(TRANSIENT, failed_attempts=4, policy=PLAIN, roll=0.5)

    assert isinstance(last, Retry)
    assert over == GiveUp(Reason.RETRIES_EXHAUSTED, "transient failure: 4 of 4 attempts")


def test_an_unknown_failure_is_tried_twice_in_all() -> None:
    first = decide(Failure(Kind.UNKNOWN), failed_attempts=1, policy=PLAIN, roll=0.5)
    second = decide(Failure(Kind.UNKNOWN), failed_attempts=2, policy=PLAIN, roll=0.5)

    assert isinstance(first, Retry)
    assert isinstance(second, GiveUp)
    assert second.reason is Reason.RETRIES_EXHAUSTED


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        (Kind.PERMANENT, None, Reason.PERMANENT),
        (Kind.PERMANENT, Reason.UNKNOWN_WORKFLOW, Reason.UNKNOWN_WORKFLOW),
        (Kind.POISON, None, Reason.UNREADABLE),
        (Kind.POISON, Reason.RESULT_TOO_LARGE, Reason.RESULT_TOO_LARGE),
        (Kind.CANCELLED, None, Reason.PERMANENT),
    ],
)
def test_what_cannot_succeed_is_given_up_at_once_with_its_own_reason(
    kind: Kind, given: Reason | None, reason: Reason
) -> None:
    decision = decide(Failure(kind), failed_attempts=1, policy=PLAIN, roll=0.5, reason=given)

    assert isinstance(decision, GiveUp)
    assert decision.reason is reason


def test_a_rate_limit_waits_at_least_as_long_as_it_was_told() -> None:
    failure = Failure(Kind.RATE_LIMITED, retry_after=90.0)

    plain = decide(failure, failed_attempts=1, policy=PLAIN, roll=0.5)
    jittered = decide(failure, failed_attempts=1, policy=RetryConfig(), roll=0.5)

    assert plain == Retry(90.0)
    assert jittered == Retry(90.5)


def test_a_backoff_longer_than_what_was_told_stands() -> None:
    failure = Failure(Kind.RATE_LIMITED, retry_after=0.1)

    assert decide(failure, failed_attempts=3, policy=PLAIN, roll=0.5) == Retry(4.0)


@pytest.mark.invariant("P8")
@pytest.mark.parametrize("remaining_s", [1.0, 0.5, 0.0, -3.0, math.nan])
def test_nothing_is_retried_that_cannot_begin_before_the_deadline(remaining_s: float) -> None:
    decision = decide(TRANSIENT, failed_attempts=1, policy=PLAIN, roll=0.5, remaining_s=remaining_s)

    assert isinstance(decision, GiveUp)
    assert decision.reason is Reason.DEADLINE


def test_a_retry_that_begins_before_the_deadline_is_made() -> None:
    decision = decide(TRANSIENT, failed_attempts=1, policy=PLAIN, roll=0.5, remaining_s=1.01)

    assert decision == Retry(1.0)


def test_a_run_whose_deadline_has_passed_ends_by_it_even_with_no_retries_left() -> None:
    decision = decide(
        Failure(Kind.TIMEOUT), failed_attempts=4, policy=PLAIN, roll=0.5, remaining_s=0
    )

    assert isinstance(decision, GiveUp)
    assert decision.reason is Reason.DEADLINE


def test_a_failure_that_is_never_retried_says_in_words_why() -> None:
    failure = Failure(Kind.PERMANENT, why="the quota is 0; waiting does not help")

    decision = decide(failure, failed_attempts=1, policy=RetryConfig(), roll=0.5)

    assert isinstance(decision, GiveUp)
    assert decision.why.endswith("a retry cannot help: the quota is 0; waiting does not help")
