"""Hooks of both kinds: awaited wherever something is awaited, else refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field

import pytest
from tests.rows import rows

from redrive.retry import (
    FailedAttempt,
    GiveUp,
    Hooks,
    Reason,
    Retrier,
    RetryConfig,
    attempts,
    retry,
    retry_async,
)
from redrive.testing.manual_clock import ManualClock

HOOKS = ("before_attempt", "on_failure", "before_sleep", "gave_up")
EVERYTHING = [
    *("before_attempt 1", "on_failure 1", "before_sleep 1"),
    *("before_attempt 2", "on_failure 2", "gave_up 2"),
]


@dataclass
class Told:
    """What hooks were told, once they were awaited to their end."""

    said: list[str] = field(default_factory=list)
    ran: int = 0

    def plain(self, name: str) -> Callable[[object], object]:
        def hook(fact: object) -> None:
            number = fact.number if isinstance(fact, FailedAttempt) else fact
            self.said.append(f"{name} {number}")

        return hook

    def asynchronous(self, name: str) -> Callable[[object], Coroutine[object, object, None]]:
        async def hook(fact: object) -> None:
            await asyncio.sleep(0)
            self.plain(name)(fact)

        return hook

    def hidden(self, name: str) -> Callable[[object], object]:
        """Return a hook of which only a call shows that it must be awaited."""
        return lambda fact: self.asynchronous(name)(fact)  # noqa: PLW0108 - what hides it

    def task(self, name: str) -> Callable[[object], object]:
        return lambda fact: asyncio.get_running_loop().create_task(self.asynchronous(name)(fact))

    def fail(self) -> None:
        self.ran += 1
        raise ConnectionError(self.ran)

    async def fail_later(self) -> None:
        self.fail()

    def retrier(self, make: Callable[[str], Callable[[object], object]], *names: str) -> Retrier:
        hooks = Hooks(**{name: make(name) for name in names or HOOKS})
        clock = ManualClock(hands_free=True)
        return Retrier(RetryConfig(max_retries=1, jitter=False), hooks=hooks, clock=clock)


async def _by_retry_async(told: Told, retrier: Retrier) -> None:
    await retry_async(told.fail_later, config=retrier)


async def _by_decorator(told: Told, retrier: Retrier) -> None:
    await retry(retrier)(told.fail_later)()


async def _by_attempts(told: Told, retrier: Retrier) -> None:
    async for attempt in attempts(retrier):
        async with attempt:
            await told.fail_later()


async def _by_plain_with(told: Told, retrier: Retrier) -> None:
    async for attempt in attempts(retrier):
        with attempt:
            await told.fail_later()


def _by_plain_decorator(told: Told, retrier: Retrier) -> None:
    retry(retrier)(told.fail)()


def _by_plain_for(told: Told, retrier: Retrier) -> None:
    for attempt in attempts(retrier):
        with attempt:
            told.fail()


@pytest.mark.parametrize("way", [_by_retry_async, _by_decorator, _by_attempts])
@pytest.mark.parametrize("kind", ["plain", "asynchronous", "hidden", "task"])
async def test_where_the_call_is_awaited_every_hook_is_called_to_its_end_and_in_order(
    kind: str, way: Callable[[Told, Retrier], asyncio.Future[None]]
) -> None:
    told = Told()

    with pytest.raises(ConnectionError):
        await way(told, told.retrier(getattr(told, kind)))

    assert told.said == EVERYTHING


@pytest.mark.parametrize("way", [_by_plain_decorator, _by_plain_for])
def test_where_nothing_is_awaited_plain_hooks_are_called_in_order(
    way: Callable[[Told, Retrier], None],
) -> None:
    told = Told()

    with pytest.raises(ConnectionError):
        way(told, told.retrier(told.plain))

    assert told.said == EVERYTHING


@pytest.mark.parametrize("way", [_by_plain_decorator, _by_plain_for])
@pytest.mark.parametrize("name", HOOKS)
def test_where_nothing_is_awaited_an_async_hook_is_refused_before_anything_ran(
    way: Callable[[Told, Retrier], None], name: str
) -> None:
    told = Told()

    with pytest.raises(TypeError, match=f"cannot await the async hook {name}"):
        way(told, told.retrier(told.asynchronous, name))

    assert told.ran == 0


async def test_a_plain_with_refuses_async_hooks_before_anything_ran() -> None:
    told = Told()

    with pytest.raises(TypeError, match="async with attempt"):
        await _by_plain_with(told, told.retrier(told.asynchronous, "on_failure"))

    assert told.ran == 0


@pytest.mark.parametrize("way", [_by_plain_decorator, _by_plain_for])
@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_turns_out_to_be_async_is_refused_at_its_call(
    way: Callable[[Told, Retrier], None], name: str
) -> None:
    told = Told()

    with pytest.raises(TypeError, match="nobody can await"):
        way(told, told.retrier(told.hidden, name))

    assert told.said == []


async def test_a_lambda_around_an_async_function_awaits_the_hooks_that_turn_out_to_be_async() -> (
    None
):
    told = Told()
    names = HOOKS[1:]

    with pytest.raises(ConnectionError):
        await retry(told.retrier(told.hidden, *names))(lambda: told.fail_later())()  # noqa: PLW0108 - as above

    assert told.said == [said for said in EVERYTHING if not said.startswith("before_attempt")]


def _generator(_: object) -> Iterator[None]:
    yield


async def _async_generator(_: object) -> AsyncIterator[None]:
    yield


@rows("hook", [_generator, _async_generator, 3])
def test_a_hook_that_would_do_nothing_is_refused_when_it_is_given(hook: object) -> None:
    with pytest.raises(TypeError, match=r"before_sleep is .* give a function"):
        Hooks(before_sleep=hook)  # type: ignore[arg-type]  # that is the point


async def test_a_hook_that_returns_a_generator_is_refused_at_its_call() -> None:
    retrier = Told().retrier(lambda _: lambda fact: _generator(fact), "before_sleep")  # noqa: PLW0108 - as above

    with pytest.raises(TypeError, match="returned a generator"):
        await _by_retry_async(Told(), retrier)
    with pytest.raises(TypeError, match="returned a generator"):
        await asyncio.to_thread(_by_plain_decorator, Told(), retrier)


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("way", [_by_retry_async, _by_decorator, _by_attempts])
async def test_what_an_async_hook_raises_reaches_the_caller(
    way: Callable[[Told, Retrier], asyncio.Future[None]], name: str
) -> None:
    async def broken(_: object) -> None:
        await asyncio.sleep(0)
        raise LookupError(name)

    told = Told()

    with pytest.raises(LookupError, match=name):
        await way(told, told.retrier(lambda _: broken, name))


async def test_a_call_that_is_cancelled_in_a_hook_makes_no_other_attempt() -> None:
    entered = asyncio.Event()

    async def hang(_: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    told = Told()
    task = asyncio.ensure_future(_by_retry_async(told, told.retrier(lambda _: hang, "on_failure")))
    await entered.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert told.ran == 1


async def test_no_attempt_begins_after_the_total_limit_however_long_a_hook_takes() -> None:
    clock = ManualClock(hands_free=True)
    ended: list[FailedAttempt] = []

    async def slow(_: object) -> None:
        await clock.sleep(9)

    told = Told()
    policy = RetryConfig(max_retries=9, jitter=False, total_limit=5)
    hooks = Hooks(before_sleep=slow, gave_up=ended.append)

    with pytest.raises(ConnectionError, match="1"):
        await _by_retry_async(told, Retrier(policy, hooks=hooks, clock=clock))

    assert told.ran == 1
    assert [failed.decision.reason for failed in ended if isinstance(failed.decision, GiveUp)] == [
        Reason.DEADLINE
    ]


@pytest.mark.parametrize("way", [_by_retry_async, _by_decorator, _by_attempts, _by_plain_with])
async def test_after_a_wait_that_took_too_long_the_error_is_raised_and_the_end_is_told(
    way: Callable[[Told, Retrier], asyncio.Future[None]],
) -> None:
    class Busy(ManualClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            self.advance(9)

    told, ended = Told(), list[FailedAttempt]()
    policy = RetryConfig(max_retries=9, jitter=False, total_limit=5)
    retrier = Retrier(policy, hooks=Hooks(gave_up=ended.append), clock=Busy(hands_free=True))

    with pytest.raises(ConnectionError) as caught:
        await way(told, retrier)

    assert told.ran == 1
    assert "after 1 attempt (deadline): the wait ended 5 s after" in caught.value.__notes__[0]
    assert [failed.number for failed in ended] == [1]
    assert isinstance(ended[0].decision, GiveUp)
