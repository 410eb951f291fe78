"""Judging what stands behind an exception: causes, contexts, groups, and endless chains."""

from __future__ import annotations

import asyncio
import ssl
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.errors import PermanentError, RateLimitedError, RecordError, ResultError
from redrive.retry import Kind, Reason, classify, reason_of
from redrive.retry.classifier import SEVERITY


def _caused(outer: BaseException, cause: BaseException) -> BaseException:
    outer.__cause__ = cause
    return outer


def _while_handling(outer: BaseException, context: BaseException) -> BaseException:
    outer.__context__ = context
    return outer


def _hidden(outer: BaseException, context: BaseException) -> BaseException:
    outer.__context__ = context
    outer.__suppress_context__ = True
    return outer


@rows(
    ("exc", "kind"),
    [
        # A wrapper that says nothing is what its cause is.
        (_caused(RuntimeError("node failed"), ConnectionResetError()), Kind.TRANSIENT),
        (_caused(RuntimeError(), _caused(RuntimeError(), TimeoutError())), Kind.TIMEOUT),
        (_caused(RuntimeError(), KeyError()), Kind.PERMANENT),
        # A general class is overruled by a cause that is certain.
        (_caused(ValueError("no answer"), ConnectionResetError()), Kind.TRANSIENT),
        (_caused(ValueError(), RateLimitedError()), Kind.RATE_LIMITED),
        # What is certain itself is not.
        (_caused(PermanentError(), ConnectionResetError()), Kind.PERMANENT),
        (_caused(ConnectionResetError(), PermanentError()), Kind.TRANSIENT),
        (_caused(TimeoutError(), asyncio.CancelledError()), Kind.TIMEOUT),
        (_caused(RuntimeError(), asyncio.CancelledError()), Kind.UNKNOWN),
        # A context is a hint: it counts when it can be retried, or is certain in any place.
        (_while_handling(RuntimeError(), ConnectionResetError()), Kind.TRANSIENT),
        (_while_handling(ValueError(), ConnectionResetError()), Kind.TRANSIENT),
        (_while_handling(RuntimeError(), PermanentError()), Kind.PERMANENT),
        (_while_handling(RuntimeError(), KeyError("cache miss")), Kind.UNKNOWN),
        (_while_handling(RuntimeError(), FileNotFoundError("cache")), Kind.UNKNOWN),
        (_hidden(RuntimeError(), ConnectionResetError()), Kind.UNKNOWN),
        # A certificate does not mend itself, whatever the client calls it.
        (_caused(ConnectionError(), ssl.SSLCertVerificationError(1, "")), Kind.PERMANENT),
    ],
    ids=repr,
)
def test_a_chain_is_judged_by_the_first_that_is_certain(exc: BaseException, kind: Kind) -> None:
    assert classify(exc).kind is kind


@rows(
    ("members", "kind"),
    [
        ([ConnectionResetError(), TimeoutError()], Kind.TIMEOUT),
        ([ConnectionResetError(), RateLimitedError()], Kind.RATE_LIMITED),
        ([RuntimeError(), RateLimitedError()], Kind.UNKNOWN),
        ([RuntimeError(), ConnectionResetError(), ValueError()], Kind.PERMANENT),
        ([PermanentError(), RecordError("")], Kind.POISON),
        ([RecordError(""), KeyboardInterrupt()], Kind.CANCELLED),
        # Cancelled only because the other failed.
        ([asyncio.CancelledError(), ConnectionResetError()], Kind.TRANSIENT),
        ([asyncio.CancelledError()], Kind.CANCELLED),
        ([ExceptionGroup("inner", [ValueError()]), TimeoutError()], Kind.PERMANENT),
        ([_caused(RuntimeError(), TimeoutError())], Kind.TIMEOUT),
    ],
    ids=repr,
)
def test_a_group_is_judged_by_the_member_that_can_least_be_retried(
    members: list[BaseException], kind: Kind
) -> None:
    assert classify(BaseExceptionGroup("several", members)).kind is kind


def test_a_group_waits_as_long_as_the_most_patient_member_was_told() -> None:
    group = ExceptionGroup(
        "both", [RateLimitedError(retry_after=3), RateLimitedError(retry_after=8)]
    )

    assert classify(group).retry_after == 8


async def test_what_a_real_task_group_raises_is_judged_by_its_members() -> None:
    async def fails() -> None:
        raise ConnectionResetError

    async def run_both() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails())
            tasks.create_task(asyncio.Event().wait())

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()

    assert classify(caught.value).kind is Kind.TRANSIENT


async def test_a_real_timeout_of_asyncio_is_a_timeout() -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    assert classify(caught.value).kind is Kind.TIMEOUT


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first

    assert classify(first).kind is Kind.UNKNOWN
    assert reason_of(first) is None


def test_a_group_that_is_its_own_cause_ends() -> None:
    member = RuntimeError()
    group = ExceptionGroup("round", [member])
    member.__cause__ = group

    assert classify(group).kind is Kind.UNKNOWN
    assert reason_of(group) is None


def test_groups_of_any_depth_are_judged_without_an_error() -> None:
    nested: Exception = ConnectionResetError()
    for _ in range(200):
        nested = ExceptionGroup("deeper", [nested])

    assert classify(nested).kind is Kind.UNKNOWN


def test_a_wrapper_takes_the_wait_that_its_cause_was_told() -> None:
    error = _caused(RuntimeError(), RateLimitedError(retry_after=6))

    assert classify(error).retry_after == 6


def test_a_mocks_attributes_say_nothing() -> None:
    class MockedError(Exception):
        """Answers every question with a mock, as `Mock(side_effect=…)` tests do."""

        def __getattr__(self, name: str) -> MagicMock:
            return MagicMock()

    failure = classify(MockedError())

    assert (failure.kind, failure.retry_after, failure.rule) == (Kind.UNKNOWN, None, "undecided")


def test_an_exception_whose_attributes_raise_is_judged_all_the_same() -> None:
    class BrokenError(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("the response has not been read")

    assert classify(BrokenError()).kind is Kind.UNKNOWN


def test_a_reason_is_found_behind_a_wrapper_and_in_a_group() -> None:
    error = ResultError("too large", reason="result_too_large")

    assert reason_of(_caused(RuntimeError(), error)) is Reason.RESULT_TOO_LARGE
    assert reason_of(ExceptionGroup("g", [ValueError(), error])) is Reason.RESULT_TOO_LARGE
    assert reason_of(_while_handling(RuntimeError(), error)) is None


def test_a_reason_that_is_no_reason_is_none() -> None:
    class OddError(Exception):
        __redrive_reason__ = "because"

    assert reason_of(OddError()) is None


def _alternatives(*members: Exception) -> ExceptionGroup[Exception]:
    """Make the group that pydantic-ai raises when each of its models has failed."""
    kind = type("FallbackExceptionGroup", (ExceptionGroup,), {"__module__": "pydantic_ai.x"})
    group: ExceptionGroup[Exception] = kind("all failed", list(members))
    return group


@rows(
    ("members", "kind", "wait_s"),
    [
        ((PermanentError(), ConnectionResetError()), Kind.TRANSIENT, None),
        ((PermanentError(), RateLimitedError(retry_after=60)), Kind.RATE_LIMITED, 60),
        ((RateLimitedError(retry_after=60), RateLimitedError(retry_after=9)), Kind.RATE_LIMITED, 9),
        # The other can be tried at once.
        ((RateLimitedError(retry_after=60), ConnectionResetError()), Kind.TRANSIENT, None),
        ((PermanentError(), RuntimeError()), Kind.UNKNOWN, None),
        ((PermanentError(), ValueError()), Kind.PERMANENT, None),
    ],
    ids=repr,
)
def test_of_alternatives_the_one_that_can_pass_decides(
    members: tuple[Exception, ...], kind: Kind, wait_s: float | None
) -> None:
    failure = classify(_alternatives(*members))

    assert (failure.kind, failure.retry_after) == (kind, wait_s)


MEMBERS = (
    *(PermanentError(), RecordError(""), ConnectionResetError(), TimeoutError(), RuntimeError()),
    *(RateLimitedError(retry_after=60), RateLimitedError(), ValueError()),
)


@given(st.lists(st.sampled_from(MEMBERS), min_size=1))
def test_alternatives_are_never_worse_than_any_of_them_and_a_group_never_better(
    members: list[Exception],
) -> None:
    ranks = [SEVERITY.index(classify(member).kind) for member in members]

    best = classify(_alternatives(*members))
    worst = classify(ExceptionGroup("all must pass", members))

    assert SEVERITY.index(best.kind) == max(ranks)
    assert SEVERITY.index(worst.kind) == min(ranks)


@rows("name", ["cause", "last_exception", "original_error"])
def test_what_a_library_gave_up_on_is_found_where_it_keeps_it(name: str) -> None:
    error = RuntimeError("gave up")
    setattr(error, name, TimeoutError())

    assert classify(error).kind is Kind.TIMEOUT
