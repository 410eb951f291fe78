"""What a letter does without, step by step, where its topic takes less; the source never.

Its texts are masked already, so that a cut shows no half of a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from redrive.dead_letter.redact import readable

if TYPE_CHECKING:  # it uses this
    from redrive.dead_letter.record import Attempt, Cause, DeadLetter

__all__ = ["shortened"]

SHORT_TRACEBACK_CHARS = 2_000
SHORT_MESSAGE_CHARS = 200

_Failure = TypeVar("_Failure", "Attempt", "Cause")


def shortened(letter: DeadLetter) -> Iterator[DeadLetter]:
    """Yield the letter without more and more of what is read, and not needed to drive it again."""
    # The source has the event's bytes anyway.
    letter = letter.model_copy(update={"original_event": None})
    yield letter
    trace = letter.error.traceback or ""
    if len(trace) > SHORT_TRACEBACK_CHARS:
        trace = "…" + trace[1 - SHORT_TRACEBACK_CHARS :]
    letter = _with_error(letter, traceback=trace or None, notes=[])
    yield letter
    letter = _with_error(letter, traceback=None, message=_short(letter.error.message))
    letter = letter.model_copy(
        update={
            "attempts": [_brief(one) for one in (*letter.attempts[:1], *letter.attempts[1:][-1:])],
            "cause_chain": [_brief(one) for one in letter.cause_chain],
        }
    )
    yield letter
    yield letter.model_copy(update={"attempts": [], "cause_chain": letter.cause_chain[:1]})


def _with_error(letter: DeadLetter, **changes: object) -> DeadLetter:
    return letter.model_copy(update={"error": letter.error.model_copy(update=changes)})


def _brief(failure: _Failure) -> _Failure:
    return failure.model_copy(update={"message": _short(failure.message)})


def _short(text: str) -> str:
    return readable(text, limit=SHORT_MESSAGE_CHARS)
