"""The traceback of a failure as text: what Python would write of it, within limits.

Python's own writer follows every cause and every member of a group as often as it is reached, asks
the exception's class for hints, and has no end; an exception is whatever a node made of it. [P7]
"""

from __future__ import annotations

import traceback
from types import TracebackType

from redrive.dead_letter.redacted_text import message_of, qualified
from redrive.retry.rules.rule_verdict import cause_of, context_of, members_of, notes_of, trace_of

__all__ = ["formatted"]

MAX_EXCEPTIONS = 40
MAX_MEMBERS = 15
MAX_FRAMES = 400
"""Of all exceptions together."""
MAX_FIRST_FRAMES = 60
MAX_CHARS = 4_000
"""Of one message, or of one note."""
MAX_NOTES = 16
_FROM_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_FROM_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def formatted(error: BaseException) -> str:
    """Return the traceback of an exception and of what stands behind it, the root first."""
    try:
        return "".join(_Writer().chain(error))
    except BaseException as failed:  # noqa: BLE001 - its attributes are the user's
        return f"no traceback: writing it raised {type(failed).__name__}"


class _Writer:
    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._frames = MAX_FRAMES

    def chain(self, error: BaseException) -> list[str]:
        parts: list[list[str]] = []
        at: BaseException | None = error
        while at is not None and id(at) not in self._seen and len(self._seen) < MAX_EXCEPTIONS:
            self._seen.add(id(at))
            cause = cause_of(at)
            behind = context_of(at) if cause is None else cause
            parts.append(self._one(at))
            if behind is not None and id(behind) not in self._seen:
                parts.append([_FROM_CONTEXT if cause is None else _FROM_CAUSE])
            at = behind
        return [line for part in reversed(parts) for line in part]

    def _one(self, error: BaseException) -> list[str]:
        lines, trace = list[str](), trace_of(error)
        if trace is not None:
            lines += ["Traceback (most recent call last):\n", *self._stack(trace)]
        message = message_of(error)[:MAX_CHARS]
        lines.append(f"{qualified(error)}: {message}\n" if message else f"{qualified(error)}\n")
        lines += [f"{note[:MAX_CHARS]}\n" for note in notes_of(error)[:MAX_NOTES]]
        members = members_of(error)
        for number, member in enumerate(members[:MAX_MEMBERS], start=1):
            text = "".join(self.chain(member)) or f"{qualified(member)}, as above\n"
            lines.append(f"  +---------------- {number} ----------------\n")
            lines += [f"  | {line}" for line in text.splitlines(keepends=True)]
        if len(members) > MAX_MEMBERS:
            lines.append(f"  | and {len(members) - MAX_MEMBERS} more exceptions\n")
        return lines

    def _stack(self, trace: TracebackType) -> list[str]:
        frames = list(traceback.walk_tb(trace))
        most = max(self._frames, 1)
        first = min(MAX_FIRST_FRAMES, most // 2)
        left_out = len(frames) - most
        if left_out > 0:
            begin, frames = frames[:first], frames[len(frames) - most + first :]
            lines = traceback.StackSummary.extract(iter(begin)).format()
            lines.append(f"  ({left_out} more calls)\n")
        else:
            lines = []
        self._frames -= min(most, len(frames))
        return lines + traceback.StackSummary.extract(iter(frames)).format()
