"""Retrying one call: `retry_async`, and `@retry` for functions of both kinds.

Nothing is made before the first failure, so that a call that succeeds costs next to nothing.
Cancellation, KeyboardInterrupt and SystemExit pass at once: only an `Exception` is judged.

Whether a function must be awaited is seen when it is decorated, or by what it returns: a lambda or
a wrapper around an async function is retried like the function. What works only after that, such
as a generator, is refused (`shapes.py`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import ParamSpec, Protocol, TypeVar, cast, overload

from redrive.clock import SYSTEM
from redrive.retry.retrier import (
    Retrier,
    RetryCounts,
    await_hook,
    call_hook,
    retrier_of,
    running_loop,
)
from redrive.retry.retry_config import RetryConfig
from redrive.retry.shapes import (
    KNOWN_PLAIN,
    is_async,
    is_plain,
    refuse_cached,
    refuse_function,
    refuse_result,
    refuse_to_await,
    single_use,
)

__all__ = ["Decorator", "retry", "retry_async"]

P = ParamSpec("P")
R = TypeVar("R")

_NOT_CALLED = object()


class Decorator(Protocol):
    """What `retry(…)` returns: it gives a function back with its own type."""

    def __call__(self, func: Callable[P, R], /) -> Callable[P, R]:
        """Return `func`, retried."""
        ...


async def retry_async(
    func: Callable[..., Awaitable[R]],
    /,
    *args: object,
    config: RetryConfig | Retrier | None = None,
    **kwargs: object,
) -> R:
    """Await `func(*args, **kwargs)`, again and again as the policy allows.

    An error that is not retried is raised as it came, with a note of the attempts and the reason.
    `config` is ours: for a function with an argument of that name, pass a `functools.partial`.

    Raises:
        TypeError: `func` returned what cannot be awaited, or the same coroutine a second time.
    """
    # Only a `Retrier` or a limit has anything to do before the first attempt. [N1]
    if config is None:
        started = 0.0
    elif isinstance(config, RetryConfig):
        started = 0.0 if config.total_limit is None else SYSTEM.monotonic()
    else:
        config = retrier_of(config)
        if config.hooks.before_attempt is not None:
            await await_hook(config.hooks.before_attempt, 1)
        started = 0.0 if config.config.total_limit is None else config.clock.monotonic()
    awaited: object = _NOT_CALLED
    try:
        awaited = given = func(*args, **kwargs)
        return await given
    except Exception as error:
        if awaited is _NOT_CALLED:
            refuse_function(func)
        elif not inspect.isawaitable(awaited):
            refuse_to_await(func, awaited)
        else:
            refuse_cached(func, awaited)
        tally = RetryCounts(retrier_of(config), started=started)
        delay_s = await tally.fail_async(error)
        if delay_s is None:
            raise
    call = functools.partial(func, *args, **kwargs)
    return cast("R", await _again_async(tally, delay_s, call, awaited))


@overload
def retry(config: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def retry(config: RetryConfig | Retrier | None = None) -> Decorator: ...
def retry(
    config: RetryConfig | Retrier | Callable[P, R] | None = None,
) -> Callable[P, R] | Decorator:
    """Retry a function, as `@retry`, `@retry()` or `@retry(config)`; its type stays.

    An async function waits without blocking the event loop, and so does any other whose result is
    awaited; a function that raises at the call waits in its thread. A task or future comes back as
    a task. It may stand above or below `@classmethod` and `@staticmethod`.

    Raises:
        TypeError: The function, or what it returns, works only after the call: a generator, a
            context manager, a future of a thread pool, a coroutine in a cache; or a hook is async
            and the function is not. Wherever possible when it is decorated, else at the call.
    """
    if config is None or isinstance(config, RetryConfig | Retrier):
        return cast("Decorator", functools.partial(_wrap, retrier_of(config)))
    return cast("Callable[P, R]", _wrap(retrier_of(None), config))


def _wrap(retrier: Retrier, func: object) -> object:
    if isinstance(func, classmethod | staticmethod):
        return type(func)(cast("Callable[..., object]", _wrap(retrier, func.__func__)))
    if isinstance(func, functools.partialmethod):
        inner = cast("Callable[..., object]", _wrap(retrier, func.func))
        return functools.partialmethod(inner, *func.args, **func.keywords)
    refuse_function(func)
    called = cast("Callable[..., object]", func)
    if is_async(called):
        return _wrap_async(retrier, cast("Callable[..., Awaitable[object]]", called))
    retrier.hooks.refuse_async(f"a call of {called!r}, which is not async,")
    return _wrap_plain(retrier, called)


def _wrap_async(
    retrier: Retrier, func: Callable[P, Awaitable[R]]
) -> Callable[P, Coroutine[object, object, R]]:
    before_attempt, clock = retrier.hooks.before_attempt, retrier.clock
    limited = retrier.config.total_limit is not None

    # Not by `retry_async`: the function may have an argument `config` of its own.
    @functools.wraps(func)
    async def retried(*args: P.args, **kwargs: P.kwargs) -> R:
        if before_attempt is not None:
            await await_hook(before_attempt, 1)
        started = clock.monotonic() if limited else 0.0
        try:
            return await func(*args, **kwargs)
        except Exception as error:
            tally = RetryCounts(retrier, started=started)
            delay_s = await tally.fail_async(error)
            if delay_s is None:
                raise
        call = functools.partial(func, *args, **kwargs)
        return cast("R", await _again_async(tally, delay_s, call, _NOT_CALLED))

    return retried


def _wrap_plain(retrier: Retrier, func: Callable[P, object]) -> Callable[P, object]:
    before_attempt, clock = retrier.hooks.before_attempt, retrier.clock
    limited = retrier.config.total_limit is not None

    @functools.wraps(func)
    def retried(*args: P.args, **kwargs: P.kwargs) -> object:
        if before_attempt is not None:
            call_hook(before_attempt, 1)
        started = clock.monotonic() if limited else 0.0
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            tally = RetryCounts(retrier, started=started)
            delay_s = tally.fail(error)
            if delay_s is None:
                raise
        else:
            if type(result) in KNOWN_PLAIN or is_plain(result):
                return result
            tally = RetryCounts(retrier, started=started)
            return _given(tally, result, functools.partial(func, *args, **kwargs))
        return _again_plain(tally, delay_s, functools.partial(func, *args, **kwargs))

    return retried


async def _again_async(
    tally: RetryCounts, delay_s: float, call: Callable[[], object], given: object
) -> object:
    """Go on with attempt 2; `given` is what the first call returned."""
    while True:
        await tally.retrier.clock.sleep(delay_s)
        await tally.begin_async()
        try:
            before, given = given, call()
            if inspect.isawaitable(given) and not (given is before and single_use(given)):
                return await given
        except Exception as error:
            following_s = await tally.fail_async(error)
            if following_s is None:
                raise
        else:
            refuse_to_await(call, given)
        delay_s = following_s


def _again_plain(tally: RetryCounts, delay_s: float, call: functools.partial[object]) -> object:
    """Go on with attempt 2 of a function that raised at its call."""
    while True:
        _block(tally.retrier, delay_s)
        tally.begin()
        try:
            result = call()
        except Exception as error:
            following_s = tally.fail(error)
            if following_s is None:
                raise
        else:
            return _given(tally, result, call)
        delay_s = following_s


def _given(tally: RetryCounts, result: object, call: functools.partial[object]) -> object:
    """Return a plain result as it is, and one that is awaited so that it is retried then."""
    if not inspect.isawaitable(result):
        refuse_result(call, result)
        return result
    refuse_cached(call.func, result)
    retried = _awaited(tally, result, call)
    if not asyncio.isfuture(result) or result.get_loop() is not running_loop():
        return retried
    task = result.get_loop().create_task(retried)
    # A task that is cancelled before it ever ran has not awaited, and so not cancelled, anything.
    task.add_done_callback(lambda done: result.cancel() if done.cancelled() else None)
    return task


async def _awaited(
    tally: RetryCounts, first: Awaitable[object], call: functools.partial[object]
) -> object:
    try:
        return await first
    except Exception as error:
        delay_s = await tally.fail_async(error)
        if delay_s is None:
            raise
    return await _again_async(tally, delay_s, call, first)


def _block(retrier: Retrier, delay_s: float) -> None:
    if delay_s > 0 and not retrier.blocking and running_loop() is not None:
        warnings.warn(
            f"a retried call waits {delay_s:.3g} s and blocks the event loop of this thread: make "
            "the function async, or call it with `asyncio.to_thread`",
            RuntimeWarning,
            stacklevel=4,
        )
    retrier.clock.block(delay_s)
