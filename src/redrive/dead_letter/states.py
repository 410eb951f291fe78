"""What became of a letter: records of their own on the letters topic, beside the letters.

A state record has the letter's key and partition, and the header `redrive-record: state`; so the
topic alone tells the whole story, in the order of its offsets.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from redrive.dead_letter.record import DeadLetter
from redrive.events import EventPlace, ZonedTime
from redrive.kafka.log import ConsumerRecord
from redrive.kafka.signed import judged
from redrive.signatures import (
    NO_TRUST,
    SIGNATURE_HEADER,
    Judged,
    Signed,
    Subject,
    Unsigned,
    Verifier,
)

__all__ = ["RECORD_HEADER", "STATE_HEADERS", "LetterState", "State", "read_letter", "read_state"]

RECORD_HEADER = "redrive-record"
STATE_HEADERS = ((RECORD_HEADER, b"state"),)


def _is_none(value: object) -> bool:
    return value is None


class State(StrEnum):
    """Where a letter stands: the last of its state records, or `open`."""

    OPEN = "open"
    REDRIVEN = "redriven"
    RESOLVED = "resolved"
    DISCARDED = "discarded"
    PARKED = "parked"


class LetterState(BaseModel):
    """One state record (header `redrive-record: state`).

    `redrive_count` is that of the event which was sent back (`redriven`), or which ended well
    (`resolved`). A run that is given up again writes a new letter instead. `sent` is the digest of
    the event that was sent back (`redrive.dead_letter.driven`), `ended` where the event lies whose
    run said this; versions before wrote neither.

    `actor` is what the writer calls itself: only where the record is signed is it known who wrote
    it, by `signed_by`. Nothing of that is read from the record's value.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: Literal[1] = 1
    dlq_id: str
    event_id: str | None
    state: State
    timestamp: ZonedTime
    actor: str
    reason: str | None = None
    mode: Literal["resume", "restart"] | None = None
    redrive_count: int = Field(0, ge=0)
    sent: str | None = Field(default=None, exclude_if=_is_none)
    ended: EventPlace | None = Field(default=None, exclude_if=_is_none)
    _judged: Judged = PrivateAttr(default=Unsigned())
    _counts: bool = PrivateAttr(default=True)
    _signature: bytes | None = PrivateAttr(default=None)

    @property
    def signed_by(self) -> str | None:
        """The name of the key that signed it; None: who wrote it is not known."""
        return self._judged.key if isinstance(self._judged, Signed) else None

    @property
    def counts(self) -> bool:
        """Whether it moves its letter; not where a signature is required and it bears none."""
        return self._counts

    @property
    def why_not(self) -> str | None:
        """Why no key vouches for it."""
        return None if isinstance(self._judged, Signed) else self._judged.why

    @property
    def signature(self) -> bytes | None:
        """The signature that fits, which no other state has."""
        return self._signature

    def to_bytes(self) -> bytes:
        """Return the JSON."""
        return self.model_dump_json().encode()


def read_letter(
    record: ConsumerRecord, verifier: Verifier = NO_TRUST.verifier
) -> DeadLetter | LetterState | None:
    """Read a record of the letters topic; None when it is neither a letter nor a state."""
    kind = dict(record.headers).get(RECORD_HEADER, b"letter")
    if kind == b"state":
        return read_state(record, verifier)
    try:
        return DeadLetter.model_validate_json(record.value or b"") if kind == b"letter" else None
    except ValidationError:
        return None


def read_state(
    record: ConsumerRecord, verifier: Verifier = NO_TRUST.verifier
) -> LetterState | None:
    """Read a state record, and judge who wrote it; None when it is none."""
    try:
        state = LetterState.model_validate_json(record.value or b"")
    except ValidationError:
        return None
    found = judged(record, Subject.STATE, verifier)
    state._judged, state._counts = found, verifier.believes(found)  # noqa: SLF001 - this module's own
    if isinstance(found, Signed):
        state._signature = dict(record.headers)[SIGNATURE_HEADER]  # noqa: SLF001 - as above
    return state
