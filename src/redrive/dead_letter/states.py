"""What became of a letter: records of their own on the letters topic, beside the letters.

A state record has the letter's key and partition, and the header `redrive-record: state`; so the
topic alone tells the whole story, in the order of its offsets.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from redrive.dead_letter.record import DeadLetter
from redrive.events import ZonedTime
from redrive.kafka.log import Record

__all__ = ["RECORD_HEADER", "STATE_HEADERS", "LetterState", "State", "read_letter"]

RECORD_HEADER = "redrive-record"
STATE_HEADERS = ((RECORD_HEADER, b"state"),)


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
    (`resolved`). A run that is given up again writes a new letter instead.
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

    def to_bytes(self) -> bytes:
        """Return the JSON."""
        return self.model_dump_json().encode()


def read_letter(record: Record) -> DeadLetter | LetterState | None:
    """Read a record of the letters topic; None when it is neither a letter nor a state."""
    kind = dict(record.headers).get(RECORD_HEADER, b"letter")
    value = record.value or b""
    try:
        if kind == b"letter":
            return DeadLetter.model_validate_json(value)
        return LetterState.model_validate_json(value) if kind == b"state" else None
    except ValidationError:
        return None
