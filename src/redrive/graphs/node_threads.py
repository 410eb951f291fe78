"""The threads that sync nodes run in, and whose work each of them does.

Nothing can end a thread: an attempt that is over may go on in one. Here it can be seen.
"""

from __future__ import annotations

import asyncio
import asyncio.futures
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

__all__ = ["WORK_IN_THREADS", "NodeThreads", "WorkInThreads", "hear_stop_iterations"]

P = ParamSpec("P")
T = TypeVar("T")


class WorkInThreads:
    """What one attempt has given to threads and is not done. Safe from any thread."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: set[Future[Any]] = set()

    @property
    def open(self) -> int:
        """How many pieces of it run, or wait for a thread."""
        return len(self._open)

    def add(self, future: Future[Any]) -> None:
        """Count one piece of work until it is done."""
        self._open.add(future)
        future.add_done_callback(self._open.discard)


WORK_IN_THREADS: ContextVar[WorkInThreads | None] = ContextVar("redrive_in_threads", default=None)
"""Where the work of this attempt is noted; set by the processor."""


class NodeThreads(ThreadPoolExecutor):
    """An executor that notes to which attempt each piece of work belongs.

    Make it the default executor of the loop that runs graphs. With any other, the attempt's
    threads are not seen, and a node that goes on in one is taken for ended.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread, for the attempt that asks."""
        future = super().submit(fn, *args, **kwargs)
        work = WORK_IN_THREADS.get()
        if work is not None:
            work.add(future)
        return future


def hear_stop_iterations() -> None:
    """Let who awaits a thread hear of a StopIteration that ended its work: as a RuntimeError.

    Before Python 3.13 asyncio refuses it where nobody listens, in a callback of its loop, and the
    node that asked for `next(rows)` in a thread waits for ever. It is mended in asyncio itself, as
    the loop and the pool of threads may be the caller's own. [P1]
    """
    if sys.version_info < (3, 13) and asyncio.futures._copy_future_state is _COPY:  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other place
        asyncio.futures._copy_future_state = _copy_and_hear  # type: ignore[attr-defined]  # noqa: SLF001 - as above


def _copy_and_hear(source: Future[Any] | asyncio.Future[Any], waiting: asyncio.Future[Any]) -> None:
    raised = None if source.cancelled() else source.exception()
    if isinstance(raised, StopIteration) and not waiting.cancelled():
        told = RuntimeError("StopIteration was raised in a thread, where nothing iterates")
        told.__cause__ = raised
        waiting.set_exception(told)
    else:
        _COPY(source, waiting)


_COPY: Callable[[Future[Any] | asyncio.Future[Any], asyncio.Future[Any]], None]
_COPY = asyncio.futures._copy_future_state  # type: ignore[attr-defined]  # noqa: SLF001 - as above
