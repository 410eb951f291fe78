"""One worker process as its parent holds it: its process, and two pipes to and from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from redrive.consumer.launcher import Process
from redrive.consumer.parent_pipe import PARENT_PIPE, PARENT_REPORTS

__all__ = ["Child", "Launch"]

_AT_ONCE_BYTES = 2**16

Launch = Callable[[Mapping[str, int]], Process]
"""Starts the process, which gets these pipes under these names."""


class Child:
    """A process that is running, or has just ended.

    By one pipe it knows that its parent lives; by the other, if it is to report, it says how it
    stands. It leads a session of its own: a Ctrl-C on the terminal reaches it through the parent
    alone.

    Args:
        launch: Starts it.
        reporting: Whether it is to report.

    Raises:
        OSError: It could not be started.
        NotReadyError: It has to wait.
    """

    def __init__(self, launch: Launch, *, reporting: bool) -> None:
        hearing, self._telling = os.pipe()
        theirs = {PARENT_PIPE: hearing}
        ours = [self._telling]
        self.reports: int | None = None
        """Where its reports can be read, as a file descriptor; None when there are none."""
        if reporting:
            self.reports, theirs[PARENT_REPORTS] = os.pipe()
            ours.append(self.reports)
            os.set_blocking(self.reports, False)
        self._unread = b""
        try:
            self._process = launch(theirs)
        except BaseException:
            for end in ours:
                os.close(end)
            raise
        finally:
            for end in theirs.values():
                os.close(end)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def status(self) -> int | None:
        """Return its exit code, or minus the signal that killed it; None while it lives."""
        return self._process.poll()

    def forward(self, number: int) -> None:
        """Send a signal on, after a byte that tells it from one that came straight to the child."""
        with suppress(BrokenPipeError):  # it has ended, or does not listen
            os.write(self._telling, bytes((number,)))
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it with -9."""
        self._process.kill()

    def last_report(self) -> bytes | None:
        """Read what it has reported until now; return the last whole line, if there is one.

        What a dead child has written is still there.
        """
        while self.reports is not None:
            try:
                read = os.read(self.reports, _AT_ONCE_BYTES)
            except BlockingIOError:
                break
            if not read:
                self._close_reports()
            self._unread += read
        *lines, self._unread = self._unread.split(b"\n")
        return lines[-1] if lines else None

    def close(self) -> None:
        """Let go of the pipes."""
        os.close(self._telling)
        self._close_reports()

    def _close_reports(self) -> None:
        if self.reports is not None:
            os.close(self.reports)
            self.reports = None
