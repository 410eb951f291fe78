"""What is opened once on an event loop, held for all runs, and closed by the task that opened it.

A cancel scope (anyio's, an asyncio timeout's) has to be left by the task that entered it, so each
thing has a task of its own. A context manager that blocks has a thread of its own, for the same
reason: a SQLite connection, say, belongs to its thread.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar

import structlog

from redrive.errors import SettingsError
from redrive.graphs.import_paths import first_line
from redrive.telemetry.redactor import BUILT_IN

__all__ = ["Held", "entered", "must_be_opened"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

_UNWIND_S = 1.0
# A worker ends in spite of threads of this name that do not: see `redrive.wiring.process`.
_THREAD = "redrive-node-holding"


class Held(Generic[T]):
    """One thing that is open from `open` to `close`, in a task of its own.

    Args:
        what: Names it in messages.
        opened: Opens it, on the stack that is unwound when it is closed.
    """

    def __init__(self, what: str, opened: Callable[[AsyncExitStack], Awaitable[T]]) -> None:
        self._what = what
        self._opened = opened
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_open = False

    @property
    def lost(self) -> bool:
        """Whether it ended by itself while it was to be held."""
        return self._is_open and self._task is not None and self._task.done()

    async def open(self, *, limit_s: float | None) -> T:
        """Open it, and return what it gives.

        Raises:
            SettingsError: It was not open within `limit_s` seconds.
            Exception: What opening it raised.
        """
        ready: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._task = task = asyncio.create_task(self._hold(ready))
        try:
            await asyncio.wait((ready, task), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._cancel(task)
            raise
        if not (ready.done() or task.done()):
            await self._cancel(task)
            raise SettingsError(
                f"{self._what} was not open within {limit_s:g} s: see what it waits for, or give "
                "it more time with worker.open_timeout"
            ) from TimeoutError()
        if task.cancelled():
            raise SettingsError(f"{self._what} cancelled itself while it was opened: fix it")
        if not ready.done():
            await task
        self._is_open = True
        task.add_done_callback(self._ended)
        return ready.result()

    async def close(self, *, limit_s: float) -> None:
        """Close it; what it raises, and that it takes longer than `limit_s` seconds, is logged."""
        task = self._task
        if task is None:
            return
        self._stop.set()
        await asyncio.wait((task,), timeout=limit_s)
        if not task.done():
            log.warning("graph.not_closed", what=self._what, error=f"not within {limit_s:.1f} s")
            await self._cancel(task)

    async def _hold(self, ready: asyncio.Future[T]) -> None:
        async with AsyncExitStack() as stack:
            ready.set_result(await self._opened(stack))
            await self._stop.wait()

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        task.remove_done_callback(self._ended)
        task.cancel()
        await asyncio.wait((task,), timeout=_UNWIND_S)
        if task.done() and not task.cancelled():
            task.exception()  # seen: the reason why it was cancelled is what is told

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Cancelled by the loop that ends: it had nobody to close it.
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        told = BUILT_IN.mask(first_line(error))
        if self._stop.is_set():
            log.warning("graph.not_closed", what=self._what, error=told)
        else:
            log.error("graph.opened_part_lost", what=self._what, error=told)


def must_be_opened(made: object) -> bool:
    """Say whether it is awaited or entered before there is something to use."""
    kind = type(made)
    return inspect.isawaitable(made) or hasattr(kind, "__aenter__") or hasattr(kind, "__enter__")


async def entered(made: object, stack: AsyncExitStack) -> object:
    """Await it, enter it on the stack, or both; return what comes out."""
    if inspect.isawaitable(made):
        made = await made
    if hasattr(type(made), "__aenter__"):
        return await stack.enter_async_context(made)  # type: ignore[arg-type]  # as just seen
    if hasattr(type(made), "__enter__"):
        return await stack.enter_async_context(_InThread(made))  # type: ignore[arg-type]  # as above
    return made


class _InThread:
    """A context manager that blocks, entered and left in one thread, beside the event loop."""

    def __init__(self, inner: AbstractContextManager[Any]) -> None:
        self._inner = inner
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=_THREAD)

    async def __aenter__(self) -> object:
        try:
            return await self._call(self._inner.__enter__)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # Whether it would swallow the error is not asked: nothing goes on after it.
            await self._call(partial(self._inner.__exit__, kind, error, traceback))
        finally:
            self._thread.shutdown(wait=False)

    async def _call(self, function: Callable[[], object]) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
