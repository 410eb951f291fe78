"""What a letter does without, step by step, where its topic takes less; the source last.

Its texts are masked already, so that a cut shows no half of a secret.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from redrive.dead_letter.redacted_text import readable
from redrive.dead_letter.source import LeftOut, value_digest
from redrive.events import MAX_EVENT_BYTES

if TYPE_CHECKING:  # it uses this
    from redrive.dead_letter.record import Cause, DeadLetter, LetterAttempt

__all__ = ["excerpted", "shortened"]

SHORT_TRACEBACK_CHARS = 2_000
SHORT_MESSAGE_CHARS = 200
EXCERPT_BYTES = 1_000
"""So much of a value is kept that does not fit as a whole."""
MAX_KEPT_KEY_BYTES = 1_000
_TAKEN_SHARE = 0.9
"""A value is packed only where that saves a tenth: whoever looks at the topic reads it no more."""

_Failure = TypeVar("_Failure", "LetterAttempt", "Cause")


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
    packed = _packed(letter)
    if packed is not None:
        letter = packed
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


def excerpted(letter: DeadLetter, whole: DeadLetter) -> DeadLetter:
    """Return the letter without its source: with a digest of it, and how it began.

    The event lies at its place for as long as its topic keeps it. `whole` is the letter with its
    source.
    """
    source = whole.source
    value = source.value or b""
    left_out = LeftOut(
        event_id=whole.event_id,
        value_digest=value_digest(source.value),
        digest=source.digest,
        value_bytes=len(value),
        headers=len(source.headers),
        excerpt=value[:EXCERPT_BYTES],
    )
    key = source.key if len(source.key or b"") <= MAX_KEPT_KEY_BYTES else None
    changes: dict[str, object] = {"key": key, "headers": [], "value": None, "left_out": left_out}
    return letter.model_copy(
        update={"source": source.model_copy(update=changes), "original_event": None}
    )


def _packed(letter: DeadLetter) -> DeadLetter | None:
    value = letter.source.value
    if value is None or len(value) > MAX_EVENT_BYTES:
        return None
    packed = zlib.compress(value)
    if len(packed) > len(value) * _TAKEN_SHARE:
        return None
    source = letter.source.model_copy(update={"value": None, "packed": packed})
    return letter.model_copy(update={"source": source})


def _with_error(letter: DeadLetter, **changes: object) -> DeadLetter:
    return letter.model_copy(update={"error": letter.error.model_copy(update=changes)})


def _brief(failure: _Failure) -> _Failure:
    return failure.model_copy(update={"message": _short(failure.message)})


def _short(text: str) -> str:
    return readable(text, limit=SHORT_MESSAGE_CHARS)
