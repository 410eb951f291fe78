"""What a node's `retry_on` answers when LangGraph asks it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.errors import GraphInterrupt
from langgraph.types import RetryPolicy

from redrive.errors import DeadlineError, StaleAttemptError, TransientError
from redrive.graphs import retry_policy
from redrive.graphs.current import CURRENT, Current
from redrive.retry import RetryConfig
from redrive.testing.manual_clock import ManualClock


def at_once(max_retries: int = 2, **more: Any) -> RetryPolicy:
    return retry_policy(max_retries, initial_delay=0, max_delay=0, jitter=False, **more)


def asked(policy: RetryPolicy, error: Exception | None = None) -> bool:
    assert not isinstance(policy.retry_on, type)
    assert callable(policy.retry_on)
    return policy.retry_on(error or TransientError())


@pytest.mark.parametrize(
    "inner",
    [
        StaleAttemptError(),
        DeadlineError(),
        GraphInterrupt(()),
        ExceptionGroup("both", [TransientError(), StaleAttemptError()]),
    ],
)
def test_what_ends_the_attempt_is_seen_behind_other_errors(inner: Exception) -> None:
    outer = TransientError("the storage is away")
    assert asked(at_once(), outer)

    outer.__cause__ = inner

    assert not asked(at_once(), outer)


@pytest.mark.parametrize(
    ("left_s", "jitter", "again"),
    [(0.4, False, False), (0.6, False, True), (1.4, True, False), (1.6, True, True)],
)
def test_nothing_is_retried_that_would_begin_after_the_deadline(
    left_s: float, *, jitter: bool, again: bool
) -> None:
    clock = ManualClock()
    current = Current(clock.monotonic() + left_s, clock, RetryConfig())
    token = CURRENT.set(current)
    try:
        assert asked(retry_policy(initial_delay=0.5, jitter=jitter)) is again
    finally:
        CURRENT.reset(token)
    assert current.node_retries == again


async def test_threads_of_one_attempt_use_no_retry_twice() -> None:
    current = Current(policy=RetryConfig(max_retries=7))
    policy = at_once(100)
    token = CURRENT.set(current)
    try:
        told = await asyncio.gather(*(asyncio.to_thread(asked, policy) for _ in range(50)))
    finally:
        CURRENT.reset(token)

    assert (sum(told), current.node_retries) == (7, 7)


def test_an_attempt_begins_anew_though_the_one_before_was_cut_while_it_waited() -> None:
    policy, error = at_once(1), TransientError()
    error.add_note("During task with name 'write' and id '1'")
    told = []
    for _ in range(2):
        # One context, and the same task of LangGraph: the thread stands where it stood.
        token = CURRENT.set(Current(policy=RetryConfig(max_retries=9)))
        told.append(asked(policy, error))
        CURRENT.reset(token)

    assert told == [True, True]


@pytest.mark.parametrize(
    "values", [{"max_retries": -1}, {"initial_delay": 9.0}, {"exponential_base": 0.5}]
)
def test_a_value_that_cannot_work_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        retry_policy(**values)
