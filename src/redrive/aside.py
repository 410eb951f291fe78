"""Calls that may never return, in a thread of their own, for a limited time.

What a node raises is the node's code: asking such an exception for its text runs that code. It must
not run on the event loop, where one that does not return would be the end of every run, and where
masking what it said makes all others wait. Nothing can end a thread: one that goes on is told of.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["TEXT_LIMIT_S", "WAIT_LIMIT_S", "Aside", "Late", "call_and_wait"]

T = TypeVar("T")

TEXT_LIMIT_S = 5.0
"""Seconds in which a failure must have been told; the longest letter takes a fifth of one."""
WAIT_LIMIT_S = 1.0
"""The same in seconds, where the caller cannot but wait: in a callback of a library."""
# They compete for the interpreter with the loop.
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Late(Generic[T]):
    """A call that has not returned within its limit, and goes on; `future` is its end."""

    future: Future[T]


class Aside:
    """Calls of one event loop.

    Args:
        limit_s: How long one may take, in seconds, from its beginning on.
    """

    def __init__(self, *, limit_s: float = TEXT_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def call(self, function: Callable[[], T]) -> T | Late[T]:
        """Return what the function returns, or that it goes on; what it raises passes."""
        async with self._turns:
            future = _begun(function)
            done, _ = await asyncio.wait((asyncio.wrap_future(future),), timeout=self._limit_s)
        return done.pop().result() if done else Late(future)


def call_and_wait(function: Callable[[], T], *, limit_s: float = WAIT_LIMIT_S) -> T | Late[T]:
    """Do the same where nothing can be awaited: the caller stands still meanwhile."""
    future = _begun(function)
    done, _ = wait_for_futures((future,), timeout=limit_s)
    return future.result() if done else Late(future)


def _begun(function: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(function)
        except BaseException as raised:  # noqa: BLE001 - whoever waits is told
            future.set_exception(raised)
        else:
            future.set_result(result)

    # A daemon: the process ends without it.
    threading.Thread(target=run, name="redrive-aside", daemon=True).start()
    return future
