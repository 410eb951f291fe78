"""What follows when a worker under a parent has ended; decisions only."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from redrive.retry.backoff import Exponential

__all__ = ["Decision", "Restart", "Stop", "after_exit", "exit_code", "how_it_ended", "worst"]

_BACKOFF = Exponential(initial=1.0, base=2.0, maximum=10.0, jitter=False)
# The exit codes of `redrive worker` after which no other follows: another worker has its identity
# (the two would end each other for ever), or it was stopped at once. Not 0, unless the parent was
# asked to stop: a node that calls `os._exit(0)` looks like that.
_FINAL = (4, 130)
_CANNOT_START = 2
# What somebody has to look at comes first: two of one identity, settings; below them deaths and
# errors, and then what is nobody's fault.
_WORST_FIRST = (4, 2)
_BEST_LAST = (3, 75, 130, 0)


@dataclass(frozen=True, slots=True)
class Restart:
    """Start another child in `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Start no other; this one ended for good, with the exit code `code`."""

    code: int


Decision = Restart | Stop


def after_exit(status: int, *, first: bool, restarts: int, asked_to_stop: bool) -> Decision:
    """Choose what follows when a child has ended.

    Args:
        status: Its exit code, or minus the number of the signal that killed it.
        first: No child was there before it. What then cannot start never could; later the broker
            may be away.
        restarts: How many there were since a child last lived for half a minute.
        asked_to_stop: Whether the parent was told to stop.
    """
    if asked_to_stop or status in _FINAL or (status == _CANNOT_START and first):
        return Stop(exit_code(status))
    return Restart(_BACKOFF.delay(restarts, 0.0) if restarts else 0.0)


def exit_code(status: int) -> int:
    """Return the exit code that a shell would give; statuses are as in `after_exit`."""
    return status if status >= 0 else 128 - status


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of these that says most about what is wrong."""

    def badness(code: int) -> tuple[int, int]:
        if code in _WORST_FIRST:
            return 2, -_WORST_FIRST.index(code)
        if code in _BEST_LAST:
            return 0, -_BEST_LAST.index(code)
        return 1, code

    return max(codes, key=badness)


def how_it_ended(status: int) -> str:
    """Say in words what an exit status means; statuses are as in `after_exit`."""
    if status >= 0:
        return f"exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    # The kernel's way to free memory; it leaves no other trace in the process.
    hint = " (possibly out of memory)" if -status == signal.SIGKILL else ""
    return f"killed by {name}{hint}"
