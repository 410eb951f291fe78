"""What a callable is, and what it returned: plain, to be awaited, or out of reach of a retry.

A retry sees what is raised while a call runs, or while what it returned is awaited. A generator, a
context manager or a future of a thread pool does its work after that: it is refused, with words
that say what to do, since a retry around it would never retry anything.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NoReturn

__all__ = [
    "KNOWN_PLAIN",
    "is_async",
    "is_generator",
    "is_plain",
    "refuse_awaitable",
    "refuse_cached",
    "refuse_function",
    "refuse_result",
    "refuse_to_await",
    "single_use",
]


@contextlib.contextmanager
def _context() -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def _async_context() -> AsyncIterator[None]:
    yield


# What the two decorators of contextlib return has no public name.
_CONTEXT_CODE = {_context.__code__, _async_context.__code__}
_CONTEXT_MANAGERS = (type(_context()), type(_async_context()))
_CACHED = type(functools.lru_cache(_context))
_GENERATORS = (types.GeneratorType, types.AsyncGeneratorType)
_LATER = (Awaitable, *_GENERATORS, *_CONTEXT_MANAGERS, concurrent.futures.Future)

KNOWN_PLAIN: set[type] = set()
"""Classes of which `is_plain` was true: looked at first, so that a success is fast. [N1]"""

_MOST_KNOWN = 1000

_GENERATOR = "it fails while it is read, after the call: retry inside it, with `attempts`"
_CONTEXT = (
    "it fails when it is entered, after the call: retry inside it, before its `yield`, "
    "with `attempts`"
)
_CACHE = (
    "the cache keeps what is awaited, not its result, and that runs only once: take the cache "
    "away, or put one that is made for async functions above `@retry`"
)


def is_async(func: Callable[..., object]) -> bool:
    """Whether every call returns a coroutine, as far as one can see without a call."""
    return any(inspect.iscoroutinefunction(at) for at in _called(func))


def is_generator(func: Callable[..., object]) -> bool:
    """Whether every call makes a generator, async or not, and runs nothing."""
    return any(
        inspect.isgeneratorfunction(at) or inspect.isasyncgenfunction(at) for at in _called(func)
    )


def is_plain(result: object) -> bool:
    """Whether the work of a call is done when it returned this."""
    plain = not isinstance(result, _LATER)
    # A class that is kept stays in memory; who makes a new one for each call must not fill it.
    if plain and len(KNOWN_PLAIN) < _MOST_KNOWN:
        KNOWN_PLAIN.add(type(result))
    return plain


def refuse_function(func: object) -> None:
    """Refuse what can be seen to be out of reach of a retry, before any call.

    Raises:
        TypeError: It cannot be called, or each call makes something that works later.
    """
    if inspect.iscoroutine(func):
        _discard(func)
        raise TypeError(f"{func!r} was called already: hand over the function, not its coroutine")
    if not callable(func):
        raise TypeError(
            f"{func!r} cannot be called: give a function, or for a policy a RetryConfig or a "
            "Retrier; `@retry` belongs directly above the `def`, below `@property` and the like"
        )
    if is_generator(func):
        raise TypeError(f"{_name(func)} is a generator function: {_GENERATOR}")
    for at in _called(func):
        if getattr(at, "__code__", None) in _CONTEXT_CODE:
            raise TypeError(f"{_name(func)} makes a context manager: {_CONTEXT}")
        if isinstance(at, _CACHED) and is_async(at.__wrapped__):
            raise TypeError(f"{_name(func)} is an async function in a cache: {_CACHE}")


def refuse_result(func: object, result: object) -> None:
    """Refuse a result that will do its work later, out of reach of the retry.

    Raises:
        TypeError: It is a generator, a context manager that is made of one, or a future of a pool.
    """
    if isinstance(result, _GENERATORS):
        raise TypeError(f"{_name(func)} returned a generator: {_GENERATOR}")
    if isinstance(result, _CONTEXT_MANAGERS):
        raise TypeError(f"{_name(func)} returned a context manager: {_CONTEXT}")
    if isinstance(result, concurrent.futures.Future):
        result.cancel()
        raise TypeError(
            f"{_name(func)} returned a future of a pool, which fails after the call: retry what "
            "runs in the pool, as `pool.submit(retry(work))`"
        )


def refuse_cached(func: object, result: object) -> None:
    """Refuse an awaitable that comes out of `functools.lru_cache`, before it is awaited.

    Raises:
        TypeError: A second call would return the same one.
    """
    if callable(func) and isinstance(_called(func)[0], _CACHED):
        _discard(result)
        raise TypeError(f"{_name(func)} is cached and returned an awaitable: {_CACHE}")


def refuse_awaitable(func: object, result: object, instead: str) -> None:
    """Refuse an awaitable, or a generator, where nobody can await it.

    Raises:
        TypeError: It is one; `instead` says what to do.
    """
    if inspect.isawaitable(result):
        _discard(result)
        raise TypeError(
            f"{_name(func)} returned an awaitable that nobody can await here: {instead}"
        )
    if isinstance(result, _GENERATORS):
        raise TypeError(f"{_name(func)} returned a generator, which nobody reads: {instead}")


def single_use(awaitable: object) -> bool:
    """Whether awaiting it a second time runs nothing: a coroutine, a future, a task."""
    return inspect.iscoroutine(awaitable) or asyncio.isfuture(awaitable)


def refuse_to_await(func: object, result: object) -> NoReturn:
    """Refuse what cannot be awaited, or was awaited before and runs only once.

    Raises:
        TypeError: Always.
    """
    kind = type(result).__name__
    if not inspect.isawaitable(result):
        refuse_result(func, result)
        raise TypeError(
            f"{_name(func)} returned {kind}, which cannot be awaited: retry_async takes an async "
            "function; for any other there is `@retry`"
        )
    failed = result.exception() if asyncio.isfuture(result) and result.done() else None
    raise TypeError(
        f"{_name(func)} returned the same {kind} again, which runs only once: each call must make "
        "a new one; a cache belongs above the retry, and keeps results"
    ) from failed


def _called(func: Callable[..., object]) -> tuple[object, object]:
    """Return what a call runs: the function, or the `__call__` of an object's class."""
    func = _innermost(func)
    return func, type(func).__call__


def _innermost(func: Callable[..., object]) -> Callable[..., object]:
    """Return the function behind partials and bound methods."""
    while True:
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, types.MethodType):
            func = func.__func__
        else:
            return func


def _discard(result: object) -> None:
    # Else Python warns of a coroutine that was never awaited, beside the error that says why.
    if inspect.iscoroutine(result):
        result.close()


def _name(func: object) -> str:
    if callable(func):
        func = _innermost(func)
    if isinstance(func, types.FunctionType) and func.__name__ == "<lambda>":
        code = func.__code__
        return f"the lambda in {code.co_filename}, line {code.co_firstlineno},"
    name = getattr(func, "__qualname__", None)
    return name if isinstance(name, str) else repr(func)
