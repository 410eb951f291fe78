"""Reading letters slimly: what lists, decisions and a redrive need of them, and no more.

A whole letter costs four times as much to read, most of it for what people look at one by one: see
`redrive.redriving.letters_topic.stored`. Both take the same records for letters. These are
dictionaries since models would cost half as much again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import (
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from redrive.dead_letter.fold import Descent
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.source import unpacked
from redrive.dead_letter.states import RECORD_HEADER, LetterState, read_state
from redrive.events import ZonedTime, readable_event_id
from redrive.kafka.log import ConsumerRecord
from redrive.retry.kinds import Kind, Reason
from redrive.signatures import NO_TRUST, Verifier

__all__ = ["LetterExtract", "descent_of", "event_id_in", "read_slimly"]

_T = TypeVar("_T", bound=BaseModel)
# What `DeadLetter.headers` always writes.
_OURS = frozenset({"redrive-kind", "redrive-reason"})
# Ids and texts are not worth a place in the cache of strings: hardly one comes twice.
_SLIM = ConfigDict(extra="ignore", val_json_bytes="base64", cache_strings="keys")


def _at(*path: str) -> Any:  # noqa: ANN401 - what `Field` returns
    return Field(validation_alias=AliasPath(*path))


@with_config(_SLIM)
class EventExtract(TypedDict):
    """That there is a parsed event, not what it holds."""


@with_config(_SLIM)
class LetterExtract(TypedDict):
    """Some fields of a `DeadLetter`, those of its parts beside its own.

    `error_type` and `message` are of `error`; `source_partition`, `key`, `headers` and `value` of
    `source`, byte for byte. Where that is left out, `left_event` is the event's id, and
    `left_digest` its digest. `workflow_id` is of `context`, `thread_id` and `checkpoint_id` of
    `checkpoint`, `graph_version` of `graph`. Where texts are encrypted, `sealed` has them. What
    versions before did not write is left out, or None.
    """

    dlq_id: str
    timestamp: ZonedTime
    original_event: EventExtract | None
    error_type: Annotated[str, _at("error", "type")]
    message: Annotated[str, _at("error", "message")]
    workflow_id: NotRequired[Annotated[str | None, _at("context", "workflow_id")]]
    schema_version: NotRequired[Literal[1]]
    kind: Kind
    reason: Reason
    fingerprint: NotRequired[str | None]
    node: NotRequired[str | None]
    source_partition: Annotated[int, _at("source", "partition")]
    key: NotRequired[Annotated[bytes | None, _at("source", "key")]]
    headers: NotRequired[Annotated[list[tuple[str, bytes | None]], _at("source", "headers")]]
    value: NotRequired[Annotated[bytes | None, _at("source", "value")]]
    packed: NotRequired[Annotated[bytes | None, _at("source", "packed")]]
    left_event: NotRequired[Annotated[str | None, _at("source", "left_out", "event_id")]]
    left_digest: NotRequired[Annotated[str, _at("source", "left_out", "digest")]]
    thread_id: NotRequired[Annotated[str | None, _at("checkpoint", "thread_id")]]
    checkpoint_id: NotRequired[Annotated[str | None, _at("checkpoint", "checkpoint_id")]]
    graph_version: NotRequired[Annotated[str | None, _at("graph", "version")]]
    redrive_count: NotRequired[Annotated[int, Field(ge=0)]]
    sealed: NotRequired[Any]
    redrive_of: NotRequired[str | None]
    generation: NotRequired[Annotated[int, Field(ge=0)] | None]
    input_digest: NotRequired[str | None]


_LETTER = TypeAdapter(LetterExtract).validator


def descent_of(letter: LetterExtract) -> Descent:
    """Return what a letter comes from."""
    if letter.get("generation") is not None or not letter.get("redrive_count"):
        return Descent(letter.get("redrive_of"), letter.get("input_digest"))
    return Descent.of_former(letter.get("headers", ()), event_id_in(letter))


def read_slimly(
    record: ConsumerRecord, verifier: Verifier = NO_TRUST.verifier
) -> LetterExtract | LetterState | None:
    """Read a record of the letters topic; None when it is neither a letter nor a state."""
    headers = dict(record.headers)
    kind = headers.get(RECORD_HEADER, b"letter")
    if kind == b"letter":
        return _letter(record.value or b"", ours=headers.keys() >= _OURS)
    return read_state(record, verifier) if kind == b"state" else None


def event_id_in(letter: LetterExtract) -> str | None:
    """Return the id of the event that ended in a letter, if it can be read."""
    if "left_digest" in letter:
        return letter.get("left_event")
    return readable_event_id(letter.get("value"))


def _letter(value: bytes, *, ours: bool) -> LetterExtract | None:
    if ours:
        # Whoever wrote these headers had checked the whole letter.
        try:
            found: LetterExtract = _LETTER.validate_json(value)
            if packed := found.pop("packed", None):
                found["value"] = unpacked(packed)
        except ValueError:
            pass  # only the whole reading refuses a letter
        else:
            return found
    # What others write is checked here, and so is what cannot be read slimly.
    whole = _read(DeadLetter, value)
    if whole is None:
        return None
    same: LetterExtract = _LETTER.validate_python(whole.model_dump())
    return same


def _read(model: type[_T], value: bytes) -> _T | None:
    try:
        return model.model_validate_json(value)
    except ValidationError:
        return None
