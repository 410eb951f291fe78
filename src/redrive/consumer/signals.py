"""SIGTERM, SIGINT, SIGHUP and the death of a child, as something to wait for with a deadline."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Any, Self

__all__ = ["Signals", "has_terminal"]


class Signals:
    """Takes these signals over while it is entered; in the main thread.

    SIGHUP stays ignored where it is (`nohup`).
    """

    def __enter__(self) -> Self:
        self._sample, self._writing = os.pipe()
        for end in (self._sample, self._writing):
            os.set_blocking(end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        # Without a handler in Python no byte is written.
        numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self._before: dict[int, Any] = {n: signal.signal(n, _nothing) for n in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._sample)
        os.close(self._writing)

    def wait(
        self, timeout_s: float | None, *, pipes: Iterable[int] = ()
    ) -> tuple[list[int], list[int]]:
        """Return the signals that came, SIGCHLD left out, and the pipes that can be read.

        Both are empty after a SIGCHLD, or the timeout.

        Args:
            timeout_s: How long to wait, in seconds; None for as long as it takes.
            pipes: Returns early when there is something to be read from one of these as well.
        """
        ready, _, _ = select.select((self._sample, *pipes), (), (), timeout_s)
        if self._sample not in ready:
            return [], ready
        ready.remove(self._sample)
        numbers = [number for number in os.read(self._sample, 512) if number != signal.SIGCHLD]
        return numbers, ready


def has_terminal() -> bool:
    """Say whether this process has a terminal that can hang up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass
