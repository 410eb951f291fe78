"""A checkpointer that a user gives: what of its threads can be swept, and what cannot.

It has no place for marks of ours, so they live in memory: a thread is swept by the process in which
its run finished, or by its owner.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

__all__ = ["ForeignThreads"]

_MOST_REMEMBERED = 100_000


class ForeignThreads:
    """The finished threads of a checkpointer that someone else opens and closes.

    Args:
        saver: The checkpointer.
        most: So many threads are remembered; of more, the oldest are left to the owner.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], *, most: int = _MOST_REMEMBERED) -> None:
        self.saver = saver
        self._most = most
        self._finished: OrderedDict[str, float] = OrderedDict()

    @property
    def can_delete(self) -> bool:
        """Whether it can delete a thread from an event loop."""
        return type(self.saver).adelete_thread is not BaseCheckpointSaver.adelete_thread

    def limits(self) -> dict[str, str]:
        """Say, for the log, what is not swept and what its owner is to do."""
        kind = f"{type(self.saver).__module__}.{type(self.saver).__qualname__}"
        if self.can_delete:
            return {
                "saver": kind,
                "swept": "threads that finish while this worker runs",
                "advice": "delete threads of letters and of earlier workers yourself",
            }
        return {
            "saver": kind,
            "swept": "nothing: it has no adelete_thread",
            "advice": "delete old threads yourself, or give the worker checkpoints.url",
        }

    def finished(self, thread_id: str, at: float) -> None:
        """Remember that a thread finished, at epoch seconds."""
        if not self.can_delete:
            return
        self._finished[thread_id] = at
        self._finished.move_to_end(thread_id)
        if len(self._finished) > self._most:
            self._finished.popitem(last=False)

    def used(self, threads: Iterable[str]) -> None:
        """Forget threads that are needed again."""
        for thread in threads:
            self._finished.pop(thread, None)

    def renew(self, threads: Iterable[str], at: float) -> None:
        """Count the time of those that finished, and are not settled, from now on."""
        for thread in threads:
            if thread in self._finished:
                self.finished(thread, at)

    async def sweep(self, before: float) -> int:
        """Delete those that finished before; return how many."""
        swept = 0
        while self._finished:
            thread, at = next(iter(self._finished.items()))
            if at >= before:
                break
            await self.saver.adelete_thread(thread)
            # It may have been used again meanwhile, and then finished anew.
            if self._finished.get(thread) == at:
                del self._finished[thread]
            swept += 1
        return swept
