"""A retried call and the plain call give the same, whatever the callable is made of."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from dataclasses import dataclass
from typing import Any, TypeGuard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.retry import Retrier, RetryConfig, attempts, retry, retry_async
from redrive.testing.manual_clock import ManualClock

Function = Callable[..., Any]

MOST_RETRIES = 4


class StopError(BaseException):
    """What no retry may hold up; KeyboardInterrupt would end the loop of a task as well."""


VALUES = st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.builds(object)
FAILURES = st.lists(
    st.sampled_from(
        (ConnectionError, TimeoutError, PermissionError, StopError, asyncio.CancelledError)
    ),
    max_size=MOST_RETRIES + 2,
)


class Work:
    """Raises what it is given, one after the other, and then answers what it was called with."""

    def __init__(self, failures: list[type[BaseException]], answer: object) -> None:
        self.failures = failures
        self.answer = answer
        self.ran = 0

    def now(self, *args: object, **named: object) -> object:
        self.ran += 1
        if self.ran <= len(self.failures):
            raise self.failures[self.ran - 1](self.ran)
        return self.answer, args, named

    async def later(self, *args: object, **named: object) -> object:
        await asyncio.sleep(0)
        return self.now(*args, **named)


class Request:
    """An awaitable of a class of its own."""

    def __init__(self, work: Awaitable[object]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, None, object]:
        return self._work.__await__()


class Called:
    def __init__(self, function: Function) -> None:
        self.function = function

    def __call__(self, *args: object, **named: object) -> object:
        return self.function(*args, **named)


class Awaited(Called):
    async def __call__(self, *args: object, **named: object) -> object:
        answer = self.function(*args, **named)
        return await answer if inspect.isawaitable(answer) else answer


def as_partial(function: Function) -> Function:
    return functools.partial(function, "first", key=1)


def as_lambda(function: Function) -> Function:
    return lambda *args, **named: function(*args, **named)  # noqa: PLW0108 - a lambda is the shape


def as_traced(function: Function) -> Function:
    @functools.wraps(function)
    def traced(*args: object, **named: object) -> object:
        return function(*args, **named)

    return traced


def as_dispatching(function: Function) -> Function:
    return functools.singledispatch(function)


def as_bound(function: Function) -> Function:
    class Client:
        def call(self, *args: object, **named: object) -> object:
            return function(*args, **named)

    return Client().call


def as_static(function: Function) -> Function:
    class Client:
        call = staticmethod(function)

    return Client.call


def as_class(function: Function) -> Function:
    class Client:
        @classmethod
        def call(cls, *args: object, **named: object) -> object:
            return function(*args, **named)

    return Client.call


def as_request(function: Function) -> Function:
    """Wrap what is awaited in an object that can be awaited."""

    def request(*args: object, **named: object) -> object:
        answer = function(*args, **named)
        return Request(answer) if is_unstarted(answer) else answer

    return request


def as_task(function: Function) -> Function:
    """Start what is awaited at once."""

    def start(*args: object, **named: object) -> object:
        answer = function(*args, **named)
        return asyncio.ensure_future(answer) if is_unstarted(answer) else answer

    return start


def is_unstarted(answer: object) -> TypeGuard[Awaitable[object]]:
    """Tell what is yet to be awaited: what `@retry` returns is a coroutine, whatever it was."""
    return inspect.isawaitable(answer) and not asyncio.isfuture(answer)


Layers = list[Callable[[Function], Function]]
LAYERS = st.lists(
    st.sampled_from(
        (
            *(as_partial, as_lambda, as_traced, as_dispatching, as_bound, as_static, as_class),
            *(as_request, as_task, Called, Awaited),
        )
    ),
    max_size=4,
)


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of a call: what it returned, and what it answered or raised in the end."""

    returned: str
    answer: object = None
    error: str = ""
    ran: int = 0


def built(work: Function, layers: Layers, *, retried_at: int = -1) -> Any:  # noqa: ANN401 - of any shape
    """Return the function in its layers, and `@retry` below the layer of that number."""
    for number, layer in enumerate(layers):
        work = layer(retry(retrier())(work) if number == retried_at else work)
    return retry(retrier())(work) if retried_at == len(layers) else work


async def ending(function: Function, work: Work) -> Ending:
    returned = "nothing"
    answer: object = None
    try:
        answer = function("a", named="b")
        returned = kind_of(answer)
        if inspect.isawaitable(answer):
            answer = await answer
    except BaseException as error:  # noqa: BLE001 - it is what is compared
        return Ending(returned, error=repr(error), ran=work.ran)
    return Ending(returned, answer=answer, ran=work.ran)


def kind_of(answer: object) -> str:
    if asyncio.isfuture(answer):
        return "task"
    return "awaitable" if inspect.isawaitable(answer) else "value"


def retrier() -> Retrier:
    policy = RetryConfig(max_retries=MOST_RETRIES, jitter=False, initial_delay=0, max_delay=0)
    return Retrier(policy, clock=ManualClock(hands_free=True))


def run(coroutine: Coroutine[Any, Any, Ending]) -> Ending:
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


@given(st.data(), LAYERS, VALUES, st.sampled_from(("now", "later")))
def test_a_retried_call_that_succeeds_gives_what_the_plain_call_gives(
    data: st.DataObject, layers: Layers, answer: object, method: str
) -> None:
    plain, retried = Work([], answer), Work([], answer)
    at = data.draw(st.integers(0, len(layers)), label="retried at")

    expected = run(ending(built(getattr(plain, method), layers), plain))
    got = run(ending(built(getattr(retried, method), layers, retried_at=at), retried))

    assert got == expected
    assert got.ran == 1


@given(st.data(), LAYERS, FAILURES, st.sampled_from(("now", "later")))
def test_a_call_is_tried_as_often_whatever_the_callable_is_made_of(
    data: st.DataObject, layers: Layers, failures: list[type[BaseException]], method: str
) -> None:
    work = Work(failures, "answer")
    at = data.draw(st.integers(0, len(layers)), label="retried at")

    got = run(ending(built(getattr(work, method), layers, retried_at=at), work))

    ran, error = expected_of(failures)
    assert (got.ran, got.error) == (ran, error)
    assert error or got.answer[0] == "answer"  # type: ignore[index]  # a tuple, by `Work.now`


@given(LAYERS, FAILURES)
def test_retry_async_tries_as_often_whatever_the_callable_is_made_of(
    layers: Layers, failures: list[type[BaseException]]
) -> None:
    work = Work(failures, "answer")
    function = functools.partial(retry_async, built(work.later, layers), config=retrier())

    got = run(ending(function, work))

    assert (got.ran, got.error) == expected_of(failures)


def expected_of(failures: list[type[BaseException]]) -> tuple[int, str]:
    """Return how often the work runs, and what ends it."""
    for number, failure in enumerate(failures, 1):
        passes = failure in {ConnectionError, TimeoutError}
        if not passes or number > MOST_RETRIES:
            return number, repr(failure(number))
    return len(failures) + 1, ""


async def by_attempts(function: Function) -> object:
    async for attempt in attempts(retrier()):
        async with attempt:
            return await function()
    raise AssertionError


WAYS: dict[str, Callable[[Work], Function]] = {
    "async": lambda work: retry(retrier())(work.later),
    "lambda": lambda work: retry(retrier())(as_lambda(work.later)),
    "task": lambda work: retry(retrier())(as_task(work.later)),
    "request": lambda work: retry(retrier())(as_request(work.later)),
    "retry_async": lambda work: functools.partial(retry_async, work.later, config=retrier()),
    "attempts": lambda work: functools.partial(by_attempts, work.later),
}


@given(st.sampled_from(sorted(WAYS)), st.integers(0, MOST_RETRIES), st.integers(1, 30))
def test_a_call_that_is_cancelled_at_any_moment_runs_nothing_more(
    way: str, failures: int, moment: int
) -> None:
    work = Work([ConnectionError] * failures, "answer")

    async def cancel() -> Ending:
        task = asyncio.ensure_future(WAYS[way](work)())
        for _ in range(moment):
            await asyncio.sleep(0)
        ran, done = work.ran, task.done()
        task.cancel()
        await asyncio.wait([task])
        for _ in range(20):
            await asyncio.sleep(0)
        assert work.ran == (failures + 1 if done else ran)
        return Ending("task", error="" if done else repr(task.cancelled()))

    assert run(cancel()).error in {"", "True"}
    assert work.ran <= failures + 1


@contextlib.contextmanager
def context(*_: object, **__: object) -> Iterator[None]:
    raise AssertionError
    yield


@contextlib.asynccontextmanager
async def async_context(*_: object, **__: object) -> AsyncIterator[None]:
    raise AssertionError
    yield


def generator(*_: object, **__: object) -> Iterator[None]:
    raise AssertionError
    yield


async def async_generator(*_: object, **__: object) -> AsyncIterator[None]:
    raise AssertionError
    yield


@given(
    st.lists(
        st.sampled_from(
            (
                as_partial,
                as_lambda,
                as_traced,
                as_dispatching,
                as_bound,
                as_static,
                as_class,
                Called,
            )
        ),
        max_size=4,
    ),
    st.sampled_from((generator, async_generator, context, async_context)),
)
def test_what_no_retry_would_reach_is_refused_whatever_it_is_wrapped_in(
    layers: Layers, lazy: Function
) -> None:
    function = lazy
    for layer in layers:
        function = layer(function)

    with pytest.raises(TypeError, match="with `attempts`"):
        retry(retrier())(function)("a", named="b")
    with pytest.raises(TypeError, match="with `attempts`"):
        asyncio.run(retry_async(function, "a", named="b"))
