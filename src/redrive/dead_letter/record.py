"""The dead letter: a run that was given up, whole, with why and where to go on.

The event's bytes are in `redrive.dead_letter.source`. What is left out of a letter that would be
larger than its topic allows is in `redrive.dead_letter.shortened`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from redrive.dead_letter.redacted_text import (
    BUILT_IN,
    Redactor,
    masked,
    masked_all,
    message_of,
    qualified,
    readable,
)
from redrive.dead_letter.shortened import excerpted, shortened
from redrive.dead_letter.source import Source, event_name, value_digest
from redrive.dead_letter.traces import formatted
from redrive.events import UtcTime, ZonedTime, readable_event_id
from redrive.retry.kinds import Kind, Reason
from redrive.retry.rules.rule_verdict import cause_of, context_of, members_of, notes_of

__all__ = [
    "Cause",
    "CheckpointRef",
    "DeadLetter",
    "GraphRef",
    "LetterAttempt",
    "LetterContext",
    "LetterError",
    "Source",
    "cause_chain",
    "dlq_id",
    "event_name",
    "input_digest",
    "kept_attempts",
    "letter_error",
    "readable",
]

MAX_ATTEMPTS_KEPT = 20
MAX_CAUSES_KEPT = 16
MAX_CAUSES_READ = 1_000
MAX_NOTES_KEPT = 16
MAX_NOTE_CHARS = 500
MAX_NOTES_CHARS = 4_000
"""Of all notes together; masking takes its time, and other runs wait for it. [P7]"""
MAX_CAUSES_CHARS = 8_000
"""Of the messages of all causes together, as above."""
MAX_TRACEBACK_CHARS = 16_000
MAX_TRACEBACK_TAIL = 12_000

_LETTERS = uuid.UUID("6f0d2b2e-6f1c-5d6a-9a55-1f6f0c3b7a11")


def _is_none(value: object) -> bool:
    return value is None


def _as_it_is(letter: DeadLetter) -> DeadLetter:
    return letter


class _LetterPart(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class LetterError(_LetterPart):
    """The error that ended the run: type, text, both ends of the traceback, notes."""

    type: str
    message: str
    traceback: str | None = None
    notes: list[str] = Field(default_factory=list)


class Cause(_LetterPart):
    """One link of the chain of causes, root cause first."""

    type: str
    message: str


class LetterAttempt(_LetterPart):
    """One attempt that failed."""

    number: int = Field(ge=1)
    started_at: UtcTime
    ended_at: UtcTime
    kind: Kind
    type: str
    message: str
    delay_s: float | None = None
    worker: str


class CheckpointRef(_LetterPart):
    """Where the run stopped, in LangGraph's own terms."""

    thread_id: str
    checkpoint_id: str | None = None
    checkpoint_ns: str = ""


class GraphRef(_LetterPart):
    """The graph that ran."""

    name: str
    version: str | None = None


class LetterContext(_LetterPart):
    """What a person looks for first."""

    workflow_id: str | None = None
    workflow_run_id: str | None = None


class DeadLetter(_LetterPart):
    """One record of the letters topic (header `redrive-record: letter`, or absent).

    `redrive_count`, `redrive_of` and `generation` are what was true of the run, whatever its event
    claims. `input_digest` tells another input under the same id (`input_digest`). Versions before
    wrote only the first of them.
    """

    dlq_id: str
    timestamp: ZonedTime
    original_event: dict[str, Any] | None
    error: LetterError
    retry_count: int = Field(ge=0)
    context: LetterContext
    schema_version: Literal[1] = 1
    kind: Kind
    reason: Reason
    fingerprint: str | None = None
    node: str | None = None
    cause_chain: list[Cause] = Field(default_factory=list)
    attempts: list[LetterAttempt] = Field(default_factory=list)
    source: Source
    checkpoint: CheckpointRef | None = None
    graph: GraphRef | None = None
    deadline: ZonedTime | None = None
    redrive_count: int = Field(0, ge=0)
    redrive_of: str | None = None
    generation: int | None = Field(None, ge=0)
    input_digest: str | None = None
    sealed: Any = Field(default=None, exclude_if=_is_none)
    """The texts of the error, its causes and attempts, where they are encrypted."""

    @property
    def event_id(self) -> str | None:
        """The id of the event that ended in this letter, if it can be read."""
        left_out = self.source.left_out
        return left_out.event_id if left_out else readable_event_id(self.source.whole_value)

    def to_bytes(
        self,
        *,
        limit: int | None = None,
        whole: bool = True,
        seal: Callable[[DeadLetter], DeadLetter] = _as_it_is,
    ) -> bytes:
        """Return the JSON; over `limit` bytes, without as much as it takes.

        The source is never left out, unless `whole` is False and nothing else helps. `seal`
        encrypts its texts: the limit is that of the encrypted letter.
        """
        value = _json(seal(self))
        if limit is None or len(value) <= limit:
            return value
        least = self
        for least in shortened(self):
            value = _json(seal(least))
            if len(value) <= limit:
                return value
        if whole:
            return value
        # Of a short event an excerpt would be no shorter.
        return min(value, _json(seal(excerpted(least, self))), key=len)

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers that let a reader filter letters without parsing them."""
        pairs = {
            "redrive-kind": self.kind.value,
            "redrive-reason": self.reason.value,
            "redrive-fingerprint": self.fingerprint,
        }
        return [(name, text.encode()) for name, text in pairs.items() if text is not None]


def _json(letter: DeadLetter) -> bytes:
    return letter.model_dump_json().encode()


def dlq_id(topic: str, partition: int, offset: int, *, count: int, event: str | None = None) -> str:
    """Return the letter's id: the same event given up twice is the same letter.

    `event` is what `event_name` says: a topic that begins anew has the same positions again.
    Without it, this is the id that earlier versions gave.
    """
    place = f"{topic}/{partition}/{offset}/{count}"
    return str(uuid.uuid5(_LETTERS, place if event is None else f"{place}/{event}"))


def input_digest(event_id: str | None, *asked: str) -> str | None:
    """Return what tells what an event asks for from what others of its id do.

    Args:
        event_id: None where it cannot be read: then nothing is to be told.
        asked: The digest of what it asks for, and the thread that it works on; of one that cannot
            be read, the digest of its bytes.
    """
    if event_id is None:
        return None
    # No event can be called so: an id has no colon.
    return f"b2:{value_digest(json.dumps([event_id, *asked]).encode())}"


def letter_error(
    error: BaseException, redactor: Redactor = BUILT_IN, *, traced: bool = True
) -> LetterError:
    """Put an exception into a letter: masked, within stated limits, with its traceback or not."""
    return LetterError(
        type=qualified(error),
        message=masked(message_of(error), redactor),
        # Masked whole before it is cut: half a secret is not known as one.
        traceback=masked(
            formatted(error), redactor, limit=MAX_TRACEBACK_CHARS, tail=MAX_TRACEBACK_TAIL
        )
        if traced
        else None,
        notes=masked_all(_notes(error), redactor, limit=MAX_NOTE_CHARS, most=MAX_NOTES_CHARS),
    )


def _notes(error: BaseException) -> list[str]:
    return list(dict.fromkeys(notes_of(error)))[:MAX_NOTES_KEPT]


def kept_attempts(attempts: Sequence[LetterAttempt]) -> list[LetterAttempt]:
    """Return the attempts that a letter keeps: all of a few, else the first and the latest."""
    if len(attempts) <= MAX_ATTEMPTS_KEPT:
        return list(attempts)
    return [attempts[0], *attempts[1 - MAX_ATTEMPTS_KEPT :]]


def cause_chain(error: BaseException, redactor: Redactor = BUILT_IN) -> list[Cause]:
    """Return the exceptions behind `error` and itself, the root cause first.

    Members of a group stand before it, in their order. Of a long chain both ends are kept.
    """
    found = _with_causes(error)
    if len(found) > MAX_CAUSES_KEPT:
        half = MAX_CAUSES_KEPT // 2
        found = found[:half] + found[-half:]
    messages = masked_all(map(message_of, found), redactor, most=MAX_CAUSES_CHARS)
    return [Cause(type=qualified(e), message=m) for e, m in zip(found, messages, strict=True)]


def _with_causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(found) < MAX_CAUSES_READ:
        at = waiting.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        found.append(at)
        cause = cause_of(at)
        behind = context_of(at) if cause is None else cause
        waiting += [behind] if behind is not None else []
        waiting += members_of(at)
    return found[::-1]
