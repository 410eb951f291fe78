"""What a worker knows of its parent process: whether it lives, and which signals came through it.

The parent is in `supervisor.py`. A worker without one needs nothing of this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import MutableMapping

from redrive.errors import SettingsError

__all__ = ["PARENT_PIPE", "ParentPipe", "parent_pipe", "times_asked"]

PARENT_PIPE = "REDRIVE_PARENT_PIPE"


class ParentPipe:
    """The end of a pipe whose other end the parent holds, and nobody else.

    The parent writes one byte before each signal that it sends on. The end of the pipe is the end
    of the parent, however it came.

    Args:
        number: Its file descriptor; None for a worker that has no parent: it hears nothing.
    """

    def __init__(self, number: int | None) -> None:
        self.number = number
        """The file descriptor, to be watched by an event loop."""
        self.forwarded = 0
        """How many signals the parent has sent on, as far as was read."""
        self.is_gone = False
        """Whether the parent has ended, as far as was read."""
        if number is not None:
            os.set_blocking(number, False)
            os.set_inheritable(number, False)  # noqa: FBT003 - positional only

    def read(self) -> None:
        """Take in what the parent has written until now."""
        while self.number is not None and not self.is_gone:
            try:
                written = os.read(self.number, 512)
            except BlockingIOError:
                return
            self.forwarded += len(written)
            self.is_gone = not written


def parent_pipe(environ: MutableMapping[str, str] = os.environ) -> ParentPipe:
    """Return the pipe to the parent of this process, which the parent has named in `environ`.

    Its name is taken out of there: it means nothing to what this process starts.

    Raises:
        SettingsError: The variable names no pipe.
    """
    text = environ.pop(PARENT_PIPE, "")
    if not text:
        return ParentPipe(None)
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(int(text)).st_mode)
    except (ValueError, OSError):
        is_pipe = False
    if not is_pipe:
        raise SettingsError(
            f"the environment variable {PARENT_PIPE} names no open pipe: unset it; "
            "only a parent process sets it"
        )
    return ParentPipe(int(text))


def times_asked(*, signals: int, forwarded: int) -> int:
    """Say how often a worker was asked to stop when it got `signals`.

    Of these the parent has sent on `forwarded`. Who signals a whole group of processes reaches
    the worker twice, straight and through its parent, and has asked once.
    """
    return max(forwarded, signals - forwarded)
