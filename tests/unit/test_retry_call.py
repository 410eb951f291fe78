"""Retrying one call: how often, how long, and what passes at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, assert_type

import pytest

from redrive.errors import RateLimitedError
from redrive.retry import (
    Classifier,
    FailedAttempt,
    GiveUp,
    Hooks,
    Kind,
    Reason,
    Retrier,
    Retry,
    RetryConfig,
    Rule,
    attempts,
    retry,
    retry_async,
)
from redrive.testing.manual_clock import ManualClock


class Service:
    """Fails with the given errors, one after the other, and then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def answer(self, text: str = "done") -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return text

    async def answer_async(self, text: str = "done") -> str:
        return self.answer(text)


def _retrier(config: RetryConfig | None = None, hooks: Hooks | None = None) -> Retrier:
    return Retrier(
        config or RetryConfig(jitter=False),
        hooks=hooks or Hooks(),
        clock=ManualClock(hands_free=True),
    )


def _sleeps(retrier: Retrier) -> list[float]:
    assert isinstance(retrier.clock, ManualClock)
    return retrier.clock.sleeps


async def test_a_call_that_succeeds_is_made_once() -> None:
    service = Service()

    assert await retry_async(service.answer_async, "well") == "well"
    assert await retry_async(service.answer_async, text="well", config=RetryConfig()) == "well"
    assert service.calls == 2


async def test_a_transient_failure_is_retried_until_it_succeeds() -> None:
    service = Service(ConnectionError(), TimeoutError())
    retrier = _retrier()

    answer = await retry_async(service.answer_async, config=retrier)

    assert answer == "done"
    assert service.calls == 3
    assert _sleeps(retrier) == [1, 2]


async def test_without_a_retrier_the_machines_own_clock_is_slept_on() -> None:
    service = Service(ConnectionError())

    answer = await retry_async(
        service.answer_async, config=RetryConfig(initial_delay=0, max_delay=0, total_limit=60)
    )

    assert answer == "done"
    assert service.calls == 2


@pytest.mark.invariant("P5")
async def test_a_failure_that_stays_is_raised_as_it_came_with_a_note() -> None:
    last = ConnectionError("the fourth")
    service = Service(ConnectionError(), ConnectionError(), ConnectionError(), last)

    with pytest.raises(ConnectionError) as caught:
        await retry_async(service.answer_async, config=_retrier())

    assert caught.value is last
    assert service.calls == 4
    assert last.__context__ is None
    assert last.__notes__ == [
        (
            "redrive: gave up after 4 attempts (retries_exhausted): "
            "transient failure: 4 of 4 attempts; builtins.ConnectionError is transient"
        )
    ]


async def test_one_error_that_many_calls_raise_collects_no_notes() -> None:
    shared = ConnectionError("one object for all calls")
    shared.add_note("not ours")

    for retries in (1, 1, 2, 3, 4, 5, 6, 6):
        for _ in range(20):
            policy = RetryConfig(max_retries=retries, jitter=False)
            with pytest.raises(ConnectionError):
                await retry_async(Service(*[shared] * 9).answer_async, config=_retrier(policy))

    assert shared.__notes__[0] == "not ours"
    assert [note.partition(" (")[0] for note in shared.__notes__[1:]] == [
        f"redrive: gave up after {attempts} attempts" for attempts in (5, 6, 7)
    ]


async def test_retries_around_each_other_leave_a_note_each() -> None:
    service = Service(*[ConnectionError()] * 9)
    inner = retry(_retrier(RetryConfig(max_retries=1)))(service.answer_async)

    with pytest.raises(ConnectionError) as caught:
        await retry_async(inner, config=_retrier(RetryConfig(max_retries=2)))

    assert service.calls == 6
    assert [note.partition(" (")[0] for note in caught.value.__notes__] == [
        "redrive: gave up after 2 attempts",
        "redrive: gave up after 3 attempts",
    ]


async def test_an_error_that_takes_no_note_is_raised_as_it_came() -> None:
    @dataclass(frozen=True)
    class FrozenError(Exception):
        number: int

    class NotedError(Exception):
        __notes__ = "no list"  # type: ignore[assignment]  # as some do

    for error in (FrozenError(1), NotedError()):
        with pytest.raises(type(error)) as caught:
            await retry_async(Service(error, error).answer_async, config=_retrier())

        assert caught.value is error


async def test_a_permanent_failure_is_raised_at_once_with_a_note() -> None:
    service = Service(FileNotFoundError("x"))

    with pytest.raises(FileNotFoundError) as caught:
        await retry_async(service.answer_async)

    assert service.calls == 1
    assert "after 1 attempt (permanent)" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "stop", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit()]
)
def test_what_stops_the_program_passes_at_once(stop: BaseException) -> None:
    service = Service(stop)
    retrier = _retrier()

    with pytest.raises(type(stop)) as caught:
        retry(retrier)(service.answer)()

    assert caught.value is stop
    assert service.calls == 1
    assert not hasattr(stop, "__notes__")


async def test_cancelling_while_it_waits_ends_the_call() -> None:
    clock = ManualClock()
    service = Service(ConnectionError())
    task = asyncio.create_task(retry_async(service.answer_async, config=Retrier(clock=clock)))
    await clock.wait_for_sleepers()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert service.calls == 1


@pytest.mark.parametrize("way", ["retry_async", "retry", "lambda", "attempts"])
async def test_a_call_that_hides_its_cancellation_behind_an_error_is_not_tried_again(
    way: str,
) -> None:
    entered = asyncio.Event()
    calls = 0

    async def fetch() -> None:
        nonlocal calls
        calls += 1
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            raise ConnectionError("lost while closing")

    async def loop() -> None:
        async for attempt in attempts(_retrier()):
            with attempt:
                await fetch()

    ways = {
        "retry_async": lambda: retry_async(fetch, config=_retrier()),
        "retry": retry(_retrier())(fetch),
        "lambda": retry(_retrier())(lambda: fetch()),  # noqa: PLW0108 - a lambda is the shape
        "attempts": loop,
    }
    task = asyncio.create_task(ways[way]())
    await entered.wait()

    task.cancel()

    with pytest.raises(ConnectionError) as caught:
        await task
    assert calls == 1
    assert "the task was cancelled" in caught.value.__notes__[0]


@pytest.mark.parametrize("way", ["retry_async", "attempts"])
async def test_what_is_done_after_a_cancellation_is_retried(way: str) -> None:
    service = Service(ConnectionError(), ConnectionError())

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if way == "retry_async":
                return await retry_async(service.answer_async, config=_retrier())
            async for attempt in attempts(_retrier()):
                with attempt:
                    return await service.answer_async()
        raise AssertionError

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()

    assert await task == "done"
    assert service.calls == 3


@pytest.mark.parametrize("config", [3, {"max_retries": 3}, Hooks(), RetryConfig])
def test_what_is_no_policy_is_refused_before_anything_ran(config: object) -> None:
    service = Service(ConnectionError())
    wrong: Any = config

    with pytest.raises(TypeError, match="is not a policy"):
        asyncio.run(retry_async(service.answer_async, config=wrong))
    with pytest.raises(TypeError, match="is not a policy"):
        attempts(wrong)
    with pytest.raises(TypeError, match="is not a policy"):
        Retrier(wrong)
    with pytest.raises(TypeError, match="hooks is"):
        Retrier(RetryConfig(), wrong if not isinstance(wrong, Hooks) else RetryConfig())  # type: ignore[arg-type]  # that is the point

    assert service.calls == 0


async def test_a_rate_limit_is_waited_for() -> None:
    service = Service(RateLimitedError(retry_after=90))
    retrier = _retrier()

    await retry_async(service.answer_async, config=retrier)

    assert _sleeps(retrier) == [90]


@pytest.mark.invariant("P8")
async def test_the_total_limit_ends_the_retries() -> None:
    service = Service(*[ConnectionError() for _ in range(9)])
    retrier = _retrier(RetryConfig(max_retries=9, jitter=False, total_limit=5))

    with pytest.raises(ConnectionError) as caught:
        await retry_async(service.answer_async, config=retrier)

    # 1 + 2 s have passed; 4 more would end after the fifth second.
    assert _sleeps(retrier) == [1, 2]
    assert "(deadline)" in caught.value.__notes__[0]


async def test_a_rule_of_the_user_changes_what_is_retried() -> None:
    service = Service(ValueError("warming up"))
    retrier = Retrier(
        classifier=Classifier(rules=(Rule(Kind.TRANSIENT, message="warming up"),)),
        clock=ManualClock(hands_free=True),
    )

    assert await retry_async(service.answer_async, config=retrier) == "done"


async def test_hooks_are_told_everything_in_order() -> None:
    told: list[object] = []
    hooks = Hooks(
        before_attempt=lambda number: told.append(("attempt", number)),
        on_failure=lambda failed: told.append(("failure", failed.number, failed.failure.kind)),
        before_sleep=lambda failed: told.append(("sleep", failed.decision)),
        gave_up=lambda failed: told.append(("gave up", _reason(failed))),
    )
    service = Service(ConnectionError(), PermissionError())

    with pytest.raises(PermissionError):
        await retry_async(service.answer_async, config=_retrier(hooks=hooks))

    assert told == [
        ("attempt", 1),
        ("failure", 1, Kind.TRANSIENT),
        ("sleep", Retry(1.0)),
        ("attempt", 2),
        ("failure", 2, Kind.PERMANENT),
        ("gave up", Reason.PERMANENT),
    ]


def _reason(failed: FailedAttempt) -> Reason | None:
    return failed.decision.reason if isinstance(failed.decision, GiveUp) else None


async def test_a_decorated_async_function_is_retried_and_keeps_its_type() -> None:
    retrier = _retrier()
    service = Service(ConnectionError())

    @retry(retrier)
    async def fetch(url: str, *, config: int = 0) -> str:
        """Fetch it."""
        return await service.answer_async(f"{url}{config}")

    answer = await fetch("u", config=3)

    assert_type(answer, str)
    assert answer == "u3"
    assert inspect.iscoroutinefunction(fetch)
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch it.")
    assert _sleeps(retrier) == [1]


def test_a_decorated_function_is_retried_and_keeps_its_type() -> None:
    retrier = _retrier()
    service = Service(ConnectionError(), ConnectionError())

    @retry(config=retrier)
    def fetch(url: str) -> str:
        return service.answer(url)

    answer = fetch("u")

    assert_type(answer, str)
    assert answer == "u"
    assert _sleeps(retrier) == [1, 2]


def test_a_decorated_function_that_stays_broken_raises_its_last_error() -> None:
    service = Service(ConnectionError(), ValueError("last"))

    with pytest.raises(ValueError, match="last"):
        retry(_retrier())(service.answer)()


async def test_a_decorated_async_function_that_stays_broken_raises_its_last_error() -> None:
    service = Service(ConnectionError(), ValueError("last"))

    with pytest.raises(ValueError, match="last"):
        await retry(_retrier())(service.answer_async)()
    with pytest.raises(KeyError):
        await retry(_retrier())(Service(KeyError()).answer_async)()


async def test_the_decorator_works_bare_and_called() -> None:
    @retry
    def plain() -> int:
        return 1

    @retry()
    async def called() -> int:
        return 2

    assert (plain(), await called()) == (1, 2)


def test_type_checkers_see_the_signature_of_what_is_decorated() -> None:
    class Client:
        @retry
        async def get(self, url: str, *, times: int = 1) -> bytes:
            return url.encode() * times

        @classmethod
        @retry(RetryConfig())
        def of(cls, name: str) -> int:
            return len(name)

        @staticmethod
        @retry()
        async def shared(number: int) -> int:
            return number

        @retry
        @classmethod
        async def above(cls, number: int) -> int:
            return number

    client = Client()

    got = assert_type(client.get("u", times=2), Coroutine[Any, Any, bytes])
    length = assert_type(Client.of("name"), int)
    shared = assert_type(Client.shared(1), Coroutine[Any, Any, int])
    above = assert_type(Client.above(2), Coroutine[Any, Any, int])

    assert (asyncio.run(got), length) == (b"uu", 4)
    assert (asyncio.run(shared), asyncio.run(above)) == (1, 2)
    with pytest.raises(TypeError):
        asyncio.run(client.get("u", time=2))  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError):
        Client.of(1)  # type: ignore[arg-type]  # as above
