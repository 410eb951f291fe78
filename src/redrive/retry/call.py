"""Retrying one call: `retry_async`, and `@retry` for functions of both kinds.

Nothing is made before the first failure, so that a call that succeeds costs next to nothing.
Cancellation, KeyboardInterrupt and SystemExit pass at once: only an `Exception` is judged.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import ParamSpec, Protocol, TypeVar, cast, overload

from redrive.clock import SYSTEM
from redrive.retry.config import RetryConfig
from redrive.retry.retrier import Retrier, Tally, retrier_of

__all__ = ["Decorator", "retry", "retry_async"]

P = ParamSpec("P")
R = TypeVar("R")


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
    """
    # Only a `Retrier` or a limit has anything to do before the first attempt. [N1]
    started = 0.0 if config is None else _begin_first(config)
    try:
        return await func(*args, **kwargs)
    except Exception as error:
        tally = Tally(retrier_of(config), started=started)
        delay_s = tally.fail(error)
        if delay_s is None:
            raise
    return await _again_async(tally, delay_s, functools.partial(func, *args, **kwargs))


@overload
def retry(config: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def retry(config: RetryConfig | Retrier | None = None) -> Decorator: ...
def retry(
    config: RetryConfig | Retrier | Callable[P, R] | None = None,
) -> Callable[P, R] | Decorator:
    """Retry a function, as `@retry`, `@retry()` or `@retry(config)`; its type stays.

    An async function waits without blocking the event loop, any other in its thread.

    Raises:
        TypeError: The function is a generator: it fails while it is read, after the call.
    """
    if config is None or isinstance(config, RetryConfig | Retrier):
        return cast("Decorator", functools.partial(_wrap, retrier_of(config)))
    return _wrap(retrier_of(None), config)


def _wrap(retrier: Retrier, func: Callable[P, R]) -> Callable[P, R]:
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(f"{func!r} is a generator: retry inside it, with `attempts`")
    if _is_async(func):
        awaited = cast("Callable[P, Coroutine[object, object, object]]", func)
        return cast("Callable[P, R]", _wrap_async(retrier, awaited))
    return _wrap_sync(retrier, func)


def _is_async(func: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - an object whose __call__ is async
    )


def _wrap_async(
    retrier: Retrier, func: Callable[P, Awaitable[R]]
) -> Callable[P, Coroutine[object, object, R]]:
    # Not by `retry_async`: the function may have an argument `config` of its own.
    @functools.wraps(func)
    async def retried(*args: P.args, **kwargs: P.kwargs) -> R:
        started = _begin_first(retrier)
        try:
            return await func(*args, **kwargs)
        except Exception as error:
            tally = Tally(retrier, started=started)
            delay_s = tally.fail(error)
            if delay_s is None:
                raise
        return await _again_async(tally, delay_s, functools.partial(func, *args, **kwargs))

    return retried


def _wrap_sync(retrier: Retrier, func: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(func)
    def retried(*args: P.args, **kwargs: P.kwargs) -> R:
        started = _begin_first(retrier)
        try:
            return func(*args, **kwargs)
        except Exception as error:
            tally = Tally(retrier, started=started)
            delay_s = tally.fail(error)
            if delay_s is None:
                raise
        return _again_sync(tally, delay_s, functools.partial(func, *args, **kwargs))

    return retried


def _begin_first(config: RetryConfig | Retrier) -> float:
    """Tell of the first attempt, and return when it began: read only where a limit is set."""
    if isinstance(config, RetryConfig):
        return 0.0 if config.total_limit is None else SYSTEM.monotonic()
    if config.hooks.before_attempt is not None:
        config.hooks.before_attempt(1)
    return 0.0 if config.config.total_limit is None else config.clock.monotonic()


async def _again_async(tally: Tally, delay_s: float, func: Callable[[], Awaitable[R]]) -> R:
    while True:
        await tally.retrier.clock.sleep(delay_s)
        tally.begin()
        try:
            return await func()
        except Exception as error:
            following_s = tally.fail(error)
            if following_s is None:
                raise
        delay_s = following_s


def _again_sync(tally: Tally, delay_s: float, func: Callable[[], R]) -> R:
    while True:
        tally.retrier.clock.block(delay_s)
        tally.begin()
        try:
            return func()
        except Exception as error:
            following_s = tally.fail(error)
            if following_s is None:
                raise
        delay_s = following_s
