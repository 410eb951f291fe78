"""Keeps what a node raises from ending the worker: asyncio lets some of it through to the loop.

A task raises SystemExit and KeyboardInterrupt twice: into whoever awaits it, and out of the running
loop. The first is the node's failure, judged as any other; the second would end every run of the
process. GeneratorExit is taken by whoever awaits for the end of a generator. So each coroutine of
the loop is wrapped, and what leaves it as one of these leaves it as `NodeExitError`. (The worker's
own signals come by handlers, never as KeyboardInterrupt.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from redrive.errors import NodeExitError

__all__ = ["EXITS", "contain_exits"]

T = TypeVar("T")

EXITS = (SystemExit, KeyboardInterrupt, GeneratorExit)
"""What a node may raise, and what would end more than its own run."""


def contain_exits(loop: asyncio.AbstractEventLoop) -> None:
    """Let no task of this loop end it."""
    loop.set_task_factory(_contained_task)


def _contained_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
    **options: Any,
) -> asyncio.Task[T]:
    return asyncio.Task(_Contained(coroutine), loop=loop, **options)


class _Contained(Coroutine[Any, Any, T]):
    """A coroutine whose exit becomes an error.

    Not an `async def` around it: cancelled before its first step, that would never start the inner
    one, and Python would warn of it.
    """

    def __init__(self, inner: Coroutine[Any, Any, T] | Generator[Any, None, T]) -> None:
        self._inner = inner

    def send(self, value: Any, /) -> Any:  # noqa: ANN401 - the protocol's
        try:
            return self._inner.send(value)
        except EXITS as raised:
            raise NodeExitError(raised) from raised

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
        except EXITS as raised:
            raise NodeExitError(raised) from raised

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, None, T]:
        raise TypeError("a contained coroutine is a task's, and is not awaited")
