"""Calls that may never return, in a thread of their own, for a limited time.

What a node raises is the node's code: asking such an exception for its text runs that code. It must
not run on the event loop, where one that does not return would be the end of every run, and where
masking what it said makes all others wait. Nothing can end a thread: one that goes on is told of.

Nor may failures of one workflow hold up those of another: each workflow asks one at a time, and
holds a place among the few that ask at once for a quarter of a second, then passes it on. Where N
other workflows hang, a failure waits for at most N / 2 quarters of a second. [P7]
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from typing import Generic, TypeVar, cast
from weakref import WeakValueDictionary

__all__ = ["TEXT_LIMIT_S", "WAIT_LIMIT_S", "Aside", "Late", "call_and_wait"]

T = TypeVar("T")

TEXT_LIMIT_S = 5.0
"""Seconds in which a failure must have been told; the longest letter takes a fifth of one."""
WAIT_LIMIT_S = 1.0
"""The same in seconds, where the caller cannot but wait: in a callback of a library."""
HOLD_LIMIT_S = 0.25
"""Seconds for which a call may keep those of other workflows waiting."""
# They compete for the interpreter with the loop.
_AT_ONCE = 2
# So many seconds a loop stands still at most, for calls that go on: see `call_and_wait`.
_LATE_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Late(Generic[T]):
    """A call that has not returned within its limit, and goes on; `future` is its end."""

    future: Future[T]


class Aside:
    """Calls of one event loop.

    Args:
        limit_s: How long one may take, in seconds, from its beginning on.
        hold_s: How long it may keep those of other workflows waiting.
    """

    def __init__(self, *, limit_s: float = TEXT_LIMIT_S, hold_s: float = HOLD_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._hold_s = min(hold_s, limit_s)
        self._places = asyncio.Semaphore(_AT_ONCE)
        # Names come from events: what nobody uses is forgotten.
        self._workflows: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def call(self, function: Callable[[], T], *, workflow_id: str = "") -> T | Late[T]:
        """Return what the function returns, or that it goes on; what it raises passes."""
        turn = self._workflows.setdefault(workflow_id, asyncio.Lock())
        async with turn:
            async with self._places:
                future = _begun(function)
                waited = (asyncio.wrap_future(future),)
                done, _ = await asyncio.wait(waited, timeout=self._hold_s)
            if not done:
                done, _ = await asyncio.wait(waited, timeout=self._limit_s - self._hold_s)
        return done.pop().result() if done else Late(future)


# By the id of a type, which is kept: a metaclass may raise when its class is hashed or compared.
_late: dict[int, tuple[type, Future[object]]] = {}


def call_and_wait(
    function: Callable[[], T], *, about: type, limit_s: float = WAIT_LIMIT_S
) -> T | Late[T]:
    """Do the same where nothing can be awaited: the caller stands still meanwhile.

    What goes on is not waited for twice: while it does, no other call about the same type begins,
    and none at all where four go on.

    Args:
        function: What to call.
        about: The type of the exception that it asks.
        limit_s: How long it may take, in seconds.
    """
    going_on = {known: one for known, (_, one) in tuple(_late.items()) if not one.done()}
    for known in _late.keys() - going_on.keys():
        _late.pop(known, None)
    if id(about) in going_on or len(going_on) >= _LATE_AT_ONCE:
        return Late(cast("Future[T]", going_on.get(id(about), next(iter(going_on.values())))))
    future = _begun(function)
    done, _ = wait_for_futures((future,), timeout=limit_s)
    if done:
        return future.result()
    _late[id(about)] = (about, cast("Future[object]", future))
    return Late(future)


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
