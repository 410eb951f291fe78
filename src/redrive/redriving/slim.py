"""Reading letters slimly: what lists, decisions and a redrive need of them, and no more.

A whole letter costs ten times as much to read, most of it for what people look at one by one: see
`redrive.redriving.letters.stored`. Both take the same records for letters.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import RECORD_HEADER, LetterState
from redrive.kafka.log import Record
from redrive.retry.kinds import Kind, Reason

__all__ = ["SlimLetter", "SlimSource", "read_slimly"]

_T = TypeVar("_T", bound=BaseModel)
# What `DeadLetter.headers` always writes.
_OURS = frozenset({"redrive-kind", "redrive-reason"})


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, val_json_bytes="base64")


class SlimEvent(_Part):
    """That there is a parsed event, not what it holds."""


class SlimError(_Part):
    """What a list says of the error."""

    type: str
    message: str


class SlimContext(_Part):
    """Whose run it was."""

    workflow_id: str | None = None


class SlimSource(_Part):
    """The event's record, byte for byte."""

    partition: int
    key: bytes | None = None
    headers: list[tuple[str, bytes | None]] = Field(default_factory=list)
    value: bytes | None = None


class SlimCheckpoint(_Part):
    """Where the run stopped."""

    checkpoint_id: str | None = None


class SlimLetter(_Part):
    """Fields of `DeadLetter`, with its names and meanings; what is not here is passed by."""

    dlq_id: str
    timestamp: AwareDatetime
    original_event: SlimEvent | None
    error: SlimError
    context: SlimContext
    schema_version: Literal[1] = 1
    kind: Kind
    reason: Reason
    fingerprint: str | None = None
    node: str | None = None
    source: SlimSource
    checkpoint: SlimCheckpoint | None = None
    redrive_count: int = Field(0, ge=0)


def read_slimly(record: Record) -> SlimLetter | LetterState | None:
    """Read a record of the letters topic; None when it is neither a letter nor a state."""
    names = dict(record.headers)
    match names.get(RECORD_HEADER, b"letter"):
        case b"letter":
            return _letter(record.value or b"", ours=names.keys() >= _OURS)
        case b"state":
            return _read(LetterState, record.value or b"")
        case _:
            return None


def _letter(value: bytes, *, ours: bool) -> SlimLetter | None:
    # Whoever wrote our headers had checked the whole letter. What others write is checked here, and
    # so is what is not read slimly: only the whole reading refuses a letter.
    slim = _read(SlimLetter, value) if ours else None
    if slim is not None:
        return slim
    whole = _read(DeadLetter, value)
    return None if whole is None else SlimLetter.model_validate(whole, from_attributes=True)


def _read(model: type[_T], value: bytes) -> _T | None:
    try:
        return model.model_validate_json(value)
    except ValidationError:
        return None
