"""Child processes that another process started for us, and orphans of our children.

Linux gives an orphan to its nearest living ancestor that asked for orphans (a "subreaper", prctl(2)
PR_SET_CHILD_SUBREAPER). So a process that a template forked becomes our own child as soon as the
one between has ended: its signals and its exit code reach us as those of any other child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Container

from redrive.clock import SYSTEM, Clock

__all__ = ["AdoptedProcess", "OrphanReaper", "become_subreaper"]

_PR_SET_CHILD_SUBREAPER = 36
_ORPHAN_WAITS_S = 5.0


def become_subreaper() -> str | None:
    """Ask for the orphans of this process's descendants; return why it cannot be had, or None."""
    if sys.platform != "linux":
        return f"{sys.platform} cannot give a process the orphans of its children"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        return f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}"
    return None


class AdoptedProcess:
    """An adopted child, as `subprocess.Popen` shows one that was started here.

    Args:
        pid: Its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        """Its process id."""
        self.returncode: int | None = None
        """Its exit code, or minus the signal that killed it; None while it lives."""

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that killed it; None while it lives."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        # Until it is waited for, its number belongs to no other process.
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with -9."""
        self.send_signal(signal.SIGKILL)


class OrphanReaper:
    """Lets go of orphans that have ended: what our children had started, and left behind.

    Each is left alone for some seconds: it may be the child of a thread here that is about to wait
    for it.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._seen: tuple[int, float] | None = None

    def reap(self, known: Container[int]) -> None:
        """Let go of what has ended for a while.

        Args:
            known: Process ids of children that somebody here waits for.
        """
        while True:
            try:
                # A look, which leaves it to be waited for; the same one until it is.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in known:
                return
            now_s = self._clock.monotonic()
            if self._seen is None or self._seen[0] != ended.si_pid:
                self._seen = ended.si_pid, now_s
            if now_s - self._seen[1] < _ORPHAN_WAITS_S:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)
