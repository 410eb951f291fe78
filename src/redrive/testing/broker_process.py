"""The process of a local broker: signals, bounded waits, and its end when ours ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["BrokerProcess", "tail"]

_KILL_TIMEOUT_S = 10.0
# Reads until its standard input ends, which happens when we close it or die, kill -9 included.
# (Linux's PR_SET_PDEATHSIG would fire when the thread ends that started the broker.)
_WATCH = 'while read -r _; do :; done; kill -9 "$0" 2>/dev/null'


class BrokerProcess:
    """One start of a broker, in a process group of its own so that Ctrl-C reaches us first.

    Args:
        command: What to run.
        log_file: Gets what it prints, at its end.
    """

    def __init__(self, command: Sequence[str], log_file: Path) -> None:
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        self._watch = subprocess.Popen(  # noqa: S603 - a fixed script and a number
            ["/bin/sh", "-c", _WATCH, str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """What it ended with; None while it lives."""
        return self._process.poll()

    def stop(self, timeout_s: float) -> None:
        """Ask it to end, and kill it when it has not after `timeout_s`."""
        if not self.alive:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.alive:
            self._process.kill()
            self._process.wait(_KILL_TIMEOUT_S)

    def pause(self) -> None:
        """Freeze it."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and the watch over it."""
        # The watch goes first: later the number of the process may belong to another.
        self._watch.kill()
        if self._watch.stdin is not None:
            self._watch.stdin.close()
        self._watch.wait(_KILL_TIMEOUT_S)
        self.kill()


def tail(log_file: Path, *, lines: int = 30) -> str:
    """Return the last `lines` of a log."""
    return "\n".join(log_file.read_text("utf-8", errors="replace").splitlines()[-lines:])
