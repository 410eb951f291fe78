"""A process that the demo starts, and ends whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from redrive.consumer.parent_pipe import PARENT_PIPE

__all__ = ["DemoProcess"]


class DemoProcess:
    """One process of ours: what it writes goes to `log`.

    It leads a group of its own, so that a Ctrl-C reaches the demo alone, which then ends all. A
    worker stops by itself as well when the demo is gone, however that came.

    Args:
        arguments: What Python shall run.
        env: Its whole environment.
        log: Its output, to be kept when something goes wrong.
    """

    def __init__(self, *arguments: str, env: Mapping[str, str], log: Path) -> None:
        # Its other end is closed with this process.
        theirs, self._pipe = os.pipe()
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, *arguments],
                cwd=log.parent,
                env={**env, PARENT_PIPE: str(theirs)},
                pass_fds=(theirs,),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        os.close(theirs)

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def end(self, *, patience_s: float) -> None:
        """Ask it to stop, and after `patience_s` seconds kill it, with all that it started."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        self._kill_group()
        self._process.wait()
        os.close(self._pipe)

    def _kill_group(self) -> None:
        # Often nobody of it is left.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
