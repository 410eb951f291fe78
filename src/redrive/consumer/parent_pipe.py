"""What a worker knows of its parent process: whether it lives, and which signals came through it.

And what the parent hands over at the start, by variables of the environment. The parent is in
`supervisor.py`. A worker without one needs nothing of this.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from redrive.errors import SettingsError

__all__ = [
    "LAST_EXIT",
    "PARENT_CHILD",
    "PARENT_PIPE",
    "PARENT_REPORTS",
    "Handover",
    "ParentPipe",
    "handover",
    "last_exit",
    "parent_pipe",
    "times_asked",
]

PARENT_PIPE = "REDRIVE_PARENT_PIPE"
PARENT_REPORTS = "REDRIVE_PARENT_REPORTS"
PARENT_CHILD = "REDRIVE_PARENT_CHILD"
LAST_EXIT = "REDRIVE_LAST_EXIT"

_CHILD = re.compile(r"(?P<number>\d+)/(?P<of>\d+)/(?P<token>[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Handover:
    """What a parent has handed over to this worker.

    Args:
        number: Which of the parent's workers it is, from 0.
        of: How many there are.
        membership: What the parent's workers of this number are called, one after the other, and
            nobody else; None without a parent.
        reports: The pipe that takes reports for the parent to show, as a file descriptor; None for
            a worker that shows itself.
    """

    number: int = 0
    of: int = 1
    membership: str | None = None
    reports: int | None = None


def handover(environ: MutableMapping[str, str] = os.environ) -> Handover:
    """Return what the parent has handed over, and take it out of `environ`.

    Raises:
        SettingsError: A variable of the parent's does not hold what a parent writes.
    """
    reports = _pipe(environ, PARENT_REPORTS)
    if reports is not None:
        os.set_inheritable(reports, False)  # noqa: FBT003 - positional only
    text = environ.pop(PARENT_CHILD, "")
    if not text:
        return Handover(reports=reports)
    child = _CHILD.fullmatch(text)
    if child is None:
        raise SettingsError(
            f"the environment variable {PARENT_CHILD} names no child of a parent: unset it; "
            "only a parent process sets it"
        )
    number = int(child["number"])
    return Handover(number, int(child["of"]), f"{child['token']}-{number}", reports)


def last_exit(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return how the worker before this one ended, in words; None if there was none."""
    return environ.get(LAST_EXIT) or None


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
    return ParentPipe(_pipe(environ, PARENT_PIPE))


def times_asked(*, signals: int, forwarded: int) -> int:
    """Say how often a worker was asked to stop when it got `signals`.

    Of these the parent has sent on `forwarded`. Who signals a whole group of processes reaches
    the worker twice, straight and through its parent, and has asked once.
    """
    return max(forwarded, signals - forwarded)


def _pipe(environ: MutableMapping[str, str], name: str) -> int | None:
    text = environ.pop(name, "")
    if not text:
        return None
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(int(text)).st_mode)
    except (ValueError, OSError):
        is_pipe = False
    if not is_pipe:
        raise SettingsError(
            f"the environment variable {name} names no open pipe: unset it; "
            "only a parent process sets it"
        )
    return int(text)
