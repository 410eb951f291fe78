"""`on_dead_letter`: a function of the user's, told of every letter, which can harm nobody.

It has a thread and a bounded queue of its own; what it raises is counted and logged once.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable

import structlog

from redrive.errors import SettingsError
from redrive.notify.notice import LetterNotice
from redrive.telemetry.redactor import BUILT_IN

__all__ = ["Hook", "OnDeadLetter"]

log = structlog.get_logger("redrive.notify")

OnDeadLetter = Callable[[LetterNotice], object]

MOST_WAITING = 1_000


class Hook:
    """Calls a function with each notice, one after the other.

    Args:
        function: What to call; no coroutine function.

    Raises:
        SettingsError: It is a coroutine function.
    """

    def __init__(self, function: OnDeadLetter) -> None:
        if inspect.iscoroutinefunction(function):
            raise SettingsError(
                "on_dead_letter is an async function: it is called on a thread of its own; "
                "make it a plain one, with asyncio.run(…) in it if need be"
            )
        self.called = 0
        """How often it was called and returned."""
        self.failed = 0
        """How often it raised."""
        self.dropped = 0
        """How many notices it did not get, since too many waited."""
        self._function = function
        self._changed = threading.Condition()
        self._waiting: deque[LetterNotice] = deque()
        self._closing = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="notify-hook", daemon=True)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to call it with."""
        with self._changed:
            return not (self._waiting or self._busy)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def offer(self, notice: LetterNotice) -> None:
        """Call with this soon; when too many wait, it is dropped. Never blocks."""
        with self._changed:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(notice)
                self._changed.notify_all()
                return
            self.dropped += 1
            first = self.dropped == 1
        if first:
            log.warning("notify.hook_too_slow", waiting=MOST_WAITING)

    def close(self) -> None:
        """End once nothing is left."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> int:
        """Wait until nothing is left; return how many notices it did not get in time."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._busy), timeout_s)
            return len(self._waiting) + self._busy

    def _run(self) -> None:
        while (notice := self._next()) is not None:
            self._call(notice)

    def _next(self) -> LetterNotice | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            self._busy = True
            return self._waiting.popleft()

    def _call(self, notice: LetterNotice) -> None:
        try:
            self._function(notice)
        except BaseException as error:
            # Whatever it raises: a SystemExit ends no thread of ours.
            self.failed += 1
            if self.failed == 1:
                # With its place, since nobody else will see the traceback.
                log.exception("notify.hook_failed", error=BUILT_IN.mask(repr(error)))
            return
        self.called += 1
