"""Keeps a node's `sys.exit()` from ending the worker: asyncio lets SystemExit through to the loop.

A task raises SystemExit twice: into whoever awaits it, and out of the running loop. The first is
the node's failure, judged as any other; the second would end every run of the process. So each
coroutine of the loop is wrapped, and what leaves it as SystemExit leaves it as `NodeExitError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from redrive.errors import NodeExitError

__all__ = ["contain_exits"]

T = TypeVar("T")


def contain_exits(loop: asyncio.AbstractEventLoop) -> None:
    """Let no task of this loop end it with SystemExit."""
    loop.set_task_factory(_contained_task)


def _contained_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
    **options: Any,  # noqa: ANN401 - asyncio's own
) -> asyncio.Task[T]:
    return asyncio.Task(_Contained(coroutine), loop=loop, **options)


class _Contained(Coroutine[Any, Any, T]):
    """A coroutine whose SystemExit becomes an error.

    Not an `async def` around it: cancelled before its first step, that would never start the inner
    one, and Python would warn of it.
    """

    def __init__(self, inner: Coroutine[Any, Any, T] | Generator[Any, None, T]) -> None:
        self._inner = inner

    def send(self, value: Any, /) -> Any:  # noqa: ANN401 - the protocol's
        try:
            return self._inner.send(value)
        except SystemExit as error:
            raise NodeExitError(error.code) from error

    def throw(
        self,
        kind: Any,  # noqa: ANN401 - the protocol's
        value: object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any:  # noqa: ANN401 - the protocol's
        error = kind if isinstance(kind, BaseException) else kind(value)
        try:
            return self._inner.throw(error.with_traceback(traceback or error.__traceback__))
        except SystemExit as left:
            raise NodeExitError(left.code) from left

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, None, T]:
        raise TypeError("a contained coroutine is a task's, and is not awaited")
