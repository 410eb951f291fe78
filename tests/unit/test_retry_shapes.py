"""Callables of every shape: retried for real, or refused before anything ran."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
import types
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.rows import rows

from redrive.retry import Retrier, RetryConfig, retry, retry_async
from redrive.retry.shapes import KNOWN_PLAIN
from redrive.testing.manual_clock import ManualClock

Function = Callable[..., Any]


@dataclass
class Service:
    """Fails twice with what passes by itself, then answers; counts what ran."""

    failures: int = 2
    ran: int = 0
    cache: dict[str, Any] = field(default_factory=dict)

    def now(self, text: str = "done") -> str:
        self.ran += 1
        if self.ran <= self.failures:
            raise ConnectionError(self.ran)
        return text

    async def later(self, text: str = "done") -> str:
        await asyncio.sleep(0)
        return self.now(text)

    async def __call__(self, text: str = "done") -> str:
        return await self.later(text)

    def generator(self) -> Iterator[str]:
        yield self.now()

    async def async_generator(self) -> AsyncIterator[str]:
        yield self.now()

    @contextlib.contextmanager
    def context(self) -> Iterator[str]:
        yield self.now()

    @contextlib.asynccontextmanager
    async def async_context(self) -> AsyncIterator[str]:
        yield self.now()

    def in_a_pool(self) -> Future[str]:
        # A pool that has not begun yet.
        return Future()

    def kept(self, make: Callable[[], object]) -> object:
        """Return what the first call made, for ever."""
        if "made" not in self.cache:
            self.cache["made"] = make()
        return self.cache["made"]


def _retrier() -> Retrier:
    return Retrier(RetryConfig(max_retries=2, jitter=False), clock=ManualClock(hands_free=True))


def _traced(function: Function) -> Function:
    """Wrap as a library that traces calls does."""

    @functools.wraps(function)
    def traced(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return traced


class Request:
    """Begins its work each time it is awaited."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __await__(self) -> Generator[Any, None, str]:
        return self._service.later().__await__()


class Called:
    def __init__(self, service: Service) -> None:
        self._service = service

    def __call__(self) -> Coroutine[object, object, str]:
        return self._service.later()


def _methods(service: Service) -> Any:  # noqa: ANN401 - its methods are what is tested
    on = retry(_retrier())

    class Client:
        async def get(self, text: str) -> str:
            return await service.later(text)

        part = on(cast("Function", functools.partialmethod(get, "done")))

        @on
        async def method(self) -> str:
            return await service.later()

        @on
        @classmethod
        async def above_class(cls) -> str:
            assert cls is Client
            return await service.later()

        @classmethod
        @on
        async def below_class(cls) -> str:
            assert cls is Client
            return await service.later()

        @on
        @staticmethod
        async def above_static() -> str:
            return await service.later()

        @staticmethod
        @on
        async def below_static() -> str:
            return await service.later()

        @property
        @on
        def value(self) -> str:
            return service.now()

    return Client()


def _dispatching(service: Service) -> Function:
    @functools.singledispatch
    async def dispatched(_: object) -> str:
        raise AssertionError

    @dispatched.register
    async def _(text: str) -> str:
        return await service.later(text)

    return dispatched


def _task(service: Service) -> asyncio.Task[str]:
    return asyncio.get_running_loop().create_task(service.later())


@rows(
    "shape",
    [
        lambda s: retry(_retrier())(s.later)(),
        lambda s: retry(_retrier())(s)(),
        lambda s: retry(_retrier())(functools.partial(s.later, "done"))(),
        lambda s: retry(_retrier())(functools.partial(s, "done"))(),
        lambda s: retry(_retrier())(lambda: s.later())(),  # noqa: PLW0108 - a lambda is the shape
        lambda s: retry(_retrier())(Called(s))(),
        lambda s: retry(_retrier())(_traced(s.later))(),
        lambda s: retry(_retrier())(_traced(_traced(s.later)))(),
        lambda s: retry(_retrier())(_dispatching(s))("done"),
        lambda s: retry(_retrier())(lambda: Request(s))(),
        lambda s: retry(_retrier())(functools.cache(lambda: Request(s)).__wrapped__)(),
        lambda s: retry(_retrier())(lambda: _task(s))(),
        lambda s: retry(_retrier())(lambda: s.kept(lambda: Request(s)))(),
        lambda s: _methods(s).method(),
        lambda s: _methods(s).part(),
        lambda s: _methods(s).above_class(),
        lambda s: _methods(s).below_class(),
        lambda s: _methods(s).above_static(),
        lambda s: _methods(s).below_static(),
        lambda s: retry_async(s.later, config=_retrier()),
        lambda s: retry_async(s, "done", config=_retrier()),
        lambda s: retry_async(lambda: s.later(), config=_retrier()),  # noqa: PLW0108 - as above
        lambda s: retry_async(functools.partial(s.later, "done"), config=_retrier()),
        lambda s: retry_async(_traced(s.later), config=_retrier()),
        lambda s: retry_async(_dispatching(s), "done", config=_retrier()),
        lambda s: retry_async(lambda: _task(s), config=_retrier()),
        lambda s: retry_async(lambda: Request(s), config=_retrier()),
    ],
    ids=inspect.getsource,
)
def test_what_is_awaited_is_retried_until_it_succeeds(
    shape: Callable[[Service], Awaitable[str]],
) -> None:
    service = Service()

    async def call() -> str:
        return await shape(service)

    assert asyncio.run(call()) == "done"
    assert service.ran == 3


@rows(
    "shape",
    [
        lambda s: retry(_retrier())(s.now)(),
        lambda s: retry(_retrier())(lambda: s.now())(),  # noqa: PLW0108 - a lambda is the shape
        lambda s: retry(_retrier())(functools.partial(s.now, "done"))(),
        lambda s: retry(_retrier())(_traced(s.now))(),
        lambda s: retry(_retrier())(functools.cache(s.now))(),
        lambda s: retry(_retrier())(functools.singledispatch(s.now))("done"),
        lambda s: _methods(s).value,
        # A wrapper that makes a plain function of an async one, or a list of a generator.
        lambda s: retry(_retrier())(functools.wraps(s.later)(lambda: asyncio.run(s.later())))(),
        lambda s: retry(_retrier())(functools.wraps(s.generator)(lambda: [*s.generator()]))()[0],
    ],
    ids=inspect.getsource,
)
def test_what_is_not_awaited_is_retried_until_it_succeeds(shape: Callable[[Service], str]) -> None:
    service = Service()

    assert shape(service) == "done"
    assert service.ran == 3


@rows(
    "make,advice",
    [
        (lambda s: s.generator, "inside it, with `attempts`"),
        (lambda s: s.async_generator, "inside it, with `attempts`"),
        (lambda s: functools.partial(s.generator), "inside it, with `attempts`"),
        (lambda s: staticmethod(s.generator), "inside it, with `attempts`"),
        (lambda s: classmethod(s.async_generator), "inside it, with `attempts`"),
        (lambda s: functools.partialmethod(s.generator), "inside it, with `attempts`"),
        (lambda s: s.context, "before its `yield`"),
        (lambda s: s.async_context, "before its `yield`"),
        (lambda s: functools.partial(s.context), "before its `yield`"),
        (lambda s: functools.cache(s.later), "in a cache"),
        (lambda s: functools.partial(functools.lru_cache(s.later)), "in a cache"),
        (lambda s: types.MethodType(functools.cache(Service.later), s), "in a cache"),
        (lambda s: functools.cached_property(s.now), "below `@property`"),
        (lambda s: functools.singledispatchmethod(s.later), "below `@property`"),
        (lambda _: property(str), "below `@property`"),
        (lambda _: 3, "a RetryConfig or a Retrier"),
        (lambda s: s.later(), "not its coroutine"),
    ],
)
def test_what_no_retry_would_reach_is_refused_when_it_is_decorated(
    make: Callable[[Service], Function], advice: str
) -> None:
    service = Service()

    with pytest.raises(TypeError, match=advice):
        retry(_retrier())(make(service))

    assert service.ran == 0


@rows(
    "function,advice",
    [
        (lambda s: s.generator(), "inside it, with `attempts`"),
        (lambda s: s.async_generator(), "inside it, with `attempts`"),
        (lambda s: s.context(), "before its `yield`"),
        (lambda s: s.async_context(), "before its `yield`"),
        (lambda s: s.in_a_pool(), "pool.submit"),
    ],
)
def test_what_can_only_be_seen_at_the_call_is_refused_before_its_work_began(
    function: Callable[[Service], object], advice: str
) -> None:
    service = Service()

    with pytest.raises(TypeError, match=advice):
        retry(_retrier())(lambda: function(service))()
    with pytest.raises(TypeError, match=advice):
        asyncio.run(retry_async(cast("Function", lambda: function(service)), config=_retrier()))

    assert service.ran == 0


def test_a_future_of_a_pool_that_is_refused_is_not_worked_on() -> None:
    service = Service()
    with ThreadPoolExecutor(1) as pool:
        begun, free = threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            free.wait()

        pool.submit(hold)
        begun.wait()

        with pytest.raises(TypeError, match=r"pool\.submit"):
            retry(_retrier())(pool.submit)(service.now)
        free.set()

    assert service.ran == 0


def test_a_cached_coroutine_is_refused_before_it_runs() -> None:
    service = Service()

    @functools.cache
    def cached() -> Coroutine[object, object, str]:
        return service.later()

    with pytest.raises(TypeError, match="is cached"):
        _ = retry(_retrier())(cached)()

    assert service.ran == 0


async def test_a_coroutine_or_task_that_comes_back_is_refused_and_not_awaited_again() -> None:
    for make in (lambda s: s.later(), _task):
        service = Service()
        keep = functools.partial(service.kept, functools.partial(make, service))

        with pytest.raises(TypeError, match="each call must make a new one"):
            await cast("Awaitable[str]", retry(_retrier())(keep)())

        assert service.ran == 1


async def test_the_error_of_a_task_that_comes_back_is_the_cause_of_its_refusal() -> None:
    service = Service()

    with pytest.raises(TypeError) as caught:
        await retry_async(lambda: service.kept(lambda: _task(service)), config=_retrier())  # type: ignore[arg-type,return-value]  # that it gives an object is the point

    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_a_cached_async_function_is_refused_by_retry_async_without_a_wait() -> None:
    service = Service()
    retrier = _retrier()

    with pytest.raises(TypeError, match="is cached"):
        await retry_async(functools.cache(service.later), config=retrier)

    assert service.ran == 1
    assert cast("ManualClock", retrier.clock).sleeps == []


@rows(
    "call,advice",
    [
        (lambda s: retry_async(s.now), "there is `@retry`"),
        (lambda s: retry_async(s.generator), "with `attempts`"),
        (lambda s: retry_async(s.later()), "not its coroutine"),
        (lambda _: retry_async(cast("Function", None)), "cannot be called"),
    ],
)
def test_retry_async_says_what_to_do_about_what_it_cannot_await(
    call: Callable[[Service], Coroutine[object, object, object]], advice: str
) -> None:
    service = Service(failures=0)

    with pytest.raises(TypeError, match=advice) as caught:
        asyncio.run(call(service))

    assert service.ran <= 1
    assert not hasattr(caught.value, "__notes__")


async def test_a_function_that_raises_before_and_in_its_coroutine_has_one_count() -> None:
    clock = ManualClock(hands_free=True)
    service = Service(failures=9)
    raised: list[int] = []

    def flaky() -> Awaitable[str]:
        if not raised:
            raised.append(1)
            raise ConnectionError
        return service.later()

    with pytest.warns(RuntimeWarning, match="blocks the event loop"):
        awaitable = retry(Retrier(RetryConfig(max_retries=3, jitter=False), clock=clock))(flaky)()
    with pytest.raises(ConnectionError) as caught:
        await awaitable

    assert service.ran == 3
    assert clock.sleeps == [1, 2, 4]
    assert "after 4 attempts" in caught.value.__notes__[0]


async def test_a_task_comes_back_as_a_task() -> None:
    service = Service(failures=1)

    task = retry(_retrier())(lambda: _task(service))()

    assert isinstance(task, asyncio.Task)
    assert await task == "done"


async def test_cancelling_the_task_that_came_back_cancels_the_one_that_works() -> None:
    for turns in (0, 1, 5):
        work = asyncio.ensure_future(asyncio.Event().wait())
        task = retry(_retrier())(lambda work=work: work)()
        for _ in range(turns):
            await asyncio.sleep(0)

        task.cancel()
        await asyncio.wait([task, work])

        assert (task.cancelled(), work.cancelled()) == (True, True)


async def test_a_wait_in_a_plain_function_on_an_event_loop_is_warned_of() -> None:
    service = Service(failures=1)
    load = retry(_retrier())(service.now)

    with pytest.warns(RuntimeWarning, match=r"waits 1 s.*asyncio.to_thread") as warned:
        assert load() == "done"

    assert warned[0].filename == __file__
    assert await asyncio.to_thread(retry(_retrier())(Service(failures=1).now)) == "done"


def test_a_class_whose_objects_are_called_asynchronously_is_no_async_function() -> None:
    made = retry(_retrier())(Service)(failures=7)

    assert isinstance(made, Service)
    assert made.failures == 7


def test_a_decorated_function_that_dispatches_still_takes_new_types() -> None:
    dispatched = retry(_retrier())(functools.singledispatch(lambda _: "any"))

    dispatched.register(int, lambda _: "int")  # type: ignore[attr-defined]  # functools.wraps copies it

    assert [dispatched("a"), dispatched(1)] == ["any", "int"]


def test_results_of_ever_new_classes_do_not_fill_the_memory() -> None:
    load = retry(_retrier())(lambda name: type(name, (), {})())

    made = [type(load(f"Result{number}")) for number in range(2000)]
    kept = len(KNOWN_PLAIN)
    KNOWN_PLAIN.difference_update(made)

    assert made[-1].__name__ == "Result1999"
    assert kept <= 1000
