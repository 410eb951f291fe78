"""Ends a process whose event loop stands still: a node blocks it, and nothing in it can be ended.

Only a thread of its own sees that. What was running counts a crash, as after any death. [P8]
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable

import structlog

__all__ = ["Watchdog"]

log = structlog.get_logger("redrive.worker")

_MOST_LOOK_S = 1.0


class Watchdog:
    """Watches one event loop from a thread.

    Args:
        loop: Whose turns are watched; it runs in the thread that calls `start`.
        limit_s: How long one turn may take, in seconds.
        end: Called once when one took longer; is not expected to return.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        limit_s: float,
        end: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._limit_s = limit_s
        self._end = end
        self._beats = 0
        self._watched = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redrive-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._watched = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def _run(self) -> None:
        look_s = min(_MOST_LOOK_S, self._limit_s / 4)
        still_s, seen = 0.0, self._beats
        # Looks are counted, not the clock: a process that is paused stands still as a whole.
        while not self._stop.wait(look_s):
            still_s = still_s + look_s if self._beats == seen else 0.0
            seen = self._beats
            if still_s > self._limit_s:
                log.error(
                    "worker.loop_blocked", still_s=round(still_s, 1), where=_where(self._watched)
                )
                self._end()
                return
            try:
                self._loop.call_soon_threadsafe(self._move)
            except RuntimeError:
                # The loop has closed: the process is at its end.
                return

    def _move(self) -> None:
        self._beats += 1


def _where(thread: int) -> str:
    """Return what the thread is doing, the innermost call last; places only, no values."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the one way to see another thread
    calls = traceback.extract_stack(frame)[-6:] if frame is not None else []
    return " > ".join(f"{call.filename}:{call.lineno} {call.name}" for call in calls)
