"""The records that travel: event, result, and their headers.

Other producers write these shapes already. All of them are accepted: fields that we do not know
are kept, any `source` is welcome, a naive timestamp is taken as UTC. What cannot be read is refused
with a message that names the field. The letter's record lives in `redrive.dead_letter.record`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import from_json

from redrive.clock import within_reach
from redrive.errors import RecordError
from redrive.json_texts import parsed_json
from redrive.payloads import Sealed
from redrive.retry.kinds import Kind, Reason
from redrive.thread_names import own_thread, producers_name, scoped_thread

__all__ = [
    "CANCELLED",
    "TRIGGERED",
    "ErrorInfo",
    "EventHeaders",
    "EventPlace",
    "Payload",
    "RawHeaders",
    "ResultStatus",
    "RunInfo",
    "ThreadScope",
    "WorkflowEvent",
    "WorkflowResultEvent",
    "ZonedTime",
    "excess_of",
    "extra_headers",
    "readable_event_id",
    "said_by",
    "thread_scope",
]

TRIGGERED = "workflow.triggered"
CANCELLED = "workflow.cancelled"
_USUAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_OURS = "redrive-"
_SEALED = "encrypted"
MAX_EVENT_BYTES = 64 * 2**20
"""A larger event is not read: compressed, a hundred times as much passes a topic's limit. [P11]"""
MAX_EVENT_VALUES = 2_000_000
"""Of its JSON. As objects each takes up to a hundred times its bytes: an event that holds more is
not parsed. One of less than so many bytes cannot. [P7, P11]"""
MAX_ID_CHARS = 200
MAX_NAME_CHARS = 1_024
"""Of names that are told again: of a workflow, a run of it, a thread."""
MAX_HEADER_CHARS = 1_024
MAX_HISTORY_CHARS = 4_096
MAX_DIGITS = 18

_BEFORE_VALUES = (b",", b"[", b"{")

_T = TypeVar("_T", bound=BaseModel)
RawHeaders = Sequence[tuple[str, bytes | None]]


def _utc(value: datetime) -> datetime:
    return within_reach(value.replace(tzinfo=UTC) if value.tzinfo is None else value)


def _uuid_text(value: str) -> str:
    if _USUAL_UUID.fullmatch(value):
        return value
    try:
        UUID(value)
    except ValueError:
        raise ValueError(f"{value[:80]!r} is not a UUID") from None
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS)]
RunName = Annotated[str, StringConstraints(max_length=MAX_NAME_CHARS)]
UuidText = Annotated[str, StringConstraints(max_length=MAX_ID_CHARS), AfterValidator(_uuid_text)]
UtcTime = Annotated[datetime, AfterValidator(_utc)]
ZonedTime = Annotated[AwareDatetime, AfterValidator(within_reach)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Payload(_Record):
    """What the producer sends along; `data` is the graph's input."""

    data: dict[str, Any]


class WorkflowEvent(_Record):
    """A request to run a graph: one record of the events topic."""

    event_id: UuidText
    event_type: Name = TRIGGERED
    timestamp: UtcTime
    source: str = "unknown"
    workflow_id: Name
    workflow_run_id: RunName
    payload: Payload
    metadata: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def from_bytes(cls, value: bytes | None) -> WorkflowEvent:
        """Read an event as it lies on the topic.

        Raises:
            RecordError: It cannot be read; the message names the field.
        """
        if value is not None and (why := excess_of(value)) is not None:
            raise RecordError(why)
        return _read(cls, value)

    def to_bytes(self) -> bytes:
        """Return the JSON that `from_bytes` reads."""
        return self.model_dump_json().encode()


class ErrorInfo(_Record):
    """Why a run was given up, for programs; `error` beside it is for people."""

    kind: Kind
    type: str
    message: str
    reason: Reason
    node: str | None = None
    fingerprint: str | None = None
    attempts: int = Field(ge=0)
    exhausted: bool
    retry_after_s: float | None = None
    dlq_id: str | None = None


class RunInfo(_Record):
    """How the run went: attempts, times, and who did it."""

    attempts: int = Field(ge=0)
    started_at: UtcTime | None
    finished_at: UtcTime
    resumed: bool
    redrive_count: int = Field(ge=0)
    worker: str
    resume_verified: bool | None = None


class EventPlace(_Record):
    """Where an event record lies."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)


class ResultStatus(StrEnum):
    """How a run ended: the graph ended, reported that it failed, or was given up."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


class WorkflowResultEvent(_Record):
    """The one answer to an event record: one record of the results topic.

    `answers` names that record, as an event is sent again by a further try of a task. Workers of
    earlier versions do not say it.
    """

    correlation_id: str
    workflow_id: str | None
    workflow_run_id: str | None
    result: Any = None
    status: ResultStatus
    timestamp: UtcTime
    error: str | None = None
    error_info: ErrorInfo | None = None
    run: RunInfo | None = None
    answers: EventPlace | None = None

    @classmethod
    def from_bytes(cls, value: bytes | None) -> WorkflowResultEvent:
        """Read a result as it lies on the topic.

        Raises:
            RecordError: It cannot be read; the message names the field.
        """
        return _read(cls, value)

    def to_bytes(self) -> bytes:
        """Return the JSON that `from_bytes` reads."""
        return self.model_dump_json().encode()


def _read(model: type[_T], value: bytes | None) -> _T:
    if value is None:
        raise RecordError("the record has no value", field=None)
    if len(value) > MAX_EVENT_BYTES:
        raise RecordError(f"it has {len(value)} bytes, more than the limit of {MAX_EVENT_BYTES}")
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        place = f"field {field!r}: " if field else ""
        raise RecordError(f"{place}{first['msg']}", field=field) from error


def excess_of(value: bytes) -> str | None:
    """Say in words what makes an event too large to be parsed; None where nothing does."""
    if len(value) > MAX_EVENT_BYTES:
        return f"it has {len(value)} bytes, more than the {MAX_EVENT_BYTES} of any"
    if len(value) > MAX_EVENT_VALUES and _has_too_many_values(value):
        return f"it holds more than {MAX_EVENT_VALUES} values, of which no event may have so many"
    return None


def _has_too_many_values(value: bytes) -> bool:
    if sum(map(value.count, _BEFORE_VALUES)) <= MAX_EVENT_VALUES:
        return False
    # Texts may hold as many of these as they like.
    plain = value.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 2 * MAX_EVENT_VALUES:
        return True
    return sum(sum(map(part.count, _BEFORE_VALUES)) for part in plain.split(b'"')[::2]) > (
        MAX_EVENT_VALUES
    )


def said_by(event: WorkflowEvent) -> str:
    """Return the digest of what an event asks for: which workflow, and what its run is given.

    Equal where the same JSON was sent, whatever its order and space. Nothing that a version, a
    setting or a graph makes of it is part of it, so that an event never differs from itself.

    No two encryptions of one input are equal, so an encrypted payload is as any other: who holds no
    key can make none under the event's id. Decrypted, it is what it was in clear.
    """
    section = event.metadata.get("langgraph")
    section = section if isinstance(section, dict) else {}
    payload: object = {**(event.payload.model_extra or {}), "data": event.payload.data}
    if Sealed.of(event.payload.data) is not None:
        payload = _SEALED
    said = {
        "workflow": event.workflow_id,
        "payload": payload,
        "langgraph": {name: section[name] for name in _GIVEN if name in section},
        "context": event.metadata.get("context"),
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    if _WHOLE_FLOAT.search(text):
        # 1.0 and 1 are one number of JSON, and who passes an event on may write the other one.
        text = json.dumps(_whole(said), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _whole(value: Any) -> Any:  # noqa: ANN401 - what JSON holds
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def readable_event_id(value: bytes | None) -> str | None:
    """Return the `event_id` of a record that is otherwise broken, or None when it has none."""
    if value is None or excess_of(value) is not None:
        return None
    try:
        parsed = _json(value)
    except ValueError:
        return None
    found = parsed.get("event_id") if isinstance(parsed, dict) else None
    if not isinstance(found, str) or not 0 < len(found) <= MAX_ID_CHARS:
        return None
    # JSON may escape half characters, which no record can carry.
    return found if found.isascii() or not _HALF_CHARACTER.search(found) else None


def _json(value: bytes) -> object:
    try:
        return from_json(
            value, cache_strings="keys"
        )  # five times as fast, and the same where it reads it at all
    except ValueError:
        return parsed_json(value)


@dataclass(frozen=True, slots=True)
class EventHeaders:
    """Our headers on an event: UTF-8 text, one value each, at most 8 KiB in all.

    `deadline` and `not_before` are epoch milliseconds; `traceparent` passes through. Of a redriven
    event, `of`, `mode` and `checkpoint` say which letter, how, and where the letter's run stopped;
    `event` is the id of the event that was driven, `letters` the offset from which on its partition
    of the letters says so. Field `thread` is header `redrive-thread`, and so on.
    """

    thread: str | None = None
    generation: int = 0
    attempt: int | None = None
    not_before: int | None = None
    deadline: int | None = None
    of: str | None = None
    event: str | None = None
    count: int = 0
    mode: Literal["resume", "restart"] | None = None
    checkpoint: str | None = None
    source: str | None = None
    letters: int = 0
    history: str | None = None
    traceparent: str | None = None

    @classmethod
    def read(cls, raw: RawHeaders | None) -> EventHeaders:
        """Take ours out of a record's headers; the last value of a name counts.

        Only what a run cannot be right without is insisted on: its thread and its deadline. What
        else cannot be read is passed by, and all of a redrive's where one of them is no redrive's.

        Raises:
            RecordError: The thread is not UTF-8 or too long, or the deadline no time; names the
                header.
        """
        given = {
            name: value for name, value in raw or () if name in _BY_HEADER and value is not None
        }
        if not given:
            return _NO_HEADERS
        found = {}
        for name, value in given.items():
            try:
                found[_BY_HEADER[name]] = _header(name, value)
            except RecordError:
                if name in _NEEDED:
                    raise
        if any(name not in found for name in _NO_REDRIVE if f"{_OURS}{name}" in given):
            found |= _NO_REDRIVE
        return cls(**found)

    @classmethod
    def of_event(cls, raw: RawHeaders | None, event_id: str | None) -> EventHeaders:
        """Read them, and take of a redrive's only what fits the event that bears them.

        Producers copy headers from one event to the next. What belongs to the redrive of another
        event is dropped, and so is whatever has no letter that was driven. What is left, where
        `of` is not None, is a claim: only the letters say whether it is true. Raises what `read`
        raises.
        """
        found = cls.read(raw)
        if found.of is None or found.event not in (None, event_id):
            return found.as_any_other()
        return found

    @classmethod
    def claimed_by(cls, raw: RawHeaders | None, event_id: str | None) -> EventHeaders:
        """Read what an event claims of a redrive, even where its other headers cannot be read."""
        return cls.of_event([pair for pair in raw or () if pair[0] not in _NEEDED], event_id)

    def as_any_other(self) -> EventHeaders:
        """Return those of an event that nobody drives."""
        return replace(self, **_NO_REDRIVE) if self.is_marked else self

    @property
    def is_marked(self) -> bool:
        """Whether one of them speaks of a redrive."""
        return _REDRIVES(self) != _UNMARKED

    @property
    def named_thread(self) -> str | None:
        """The thread that the producer named, by its name; None for a thread of the event's own.

        A name that is another event's own thread is nobody else's: its owner is on another
        partition, where nothing waits for this one. [P9]
        """
        return producers_name(self.thread)

    def thread_of(self, event_id: str, partition: int, *, scope: ThreadScope | None = None) -> str:
        """Return the event's LangGraph thread: the one that is named, else one of its own.

        Args:
            event_id: The event's.
            partition: The one that it lies on.
            scope: Whose names are meant; from `thread_scope`.
        """
        named = self.named_thread
        if named is None:
            return own_thread(event_id, partition, self.generation)
        return named if scope is None else scoped_thread(scope.path, scope.value, named)

    def write(self) -> list[tuple[str, bytes]]:
        """Return them as Kafka takes them; what has no value is left out."""
        told = zip(_BY_HEADER, _VALUES(self), _VALUES(_NO_HEADERS), strict=True)
        return [(name, str(value).encode()) for name, value, none in told if value != none]


@dataclass(frozen=True, slots=True)
class ThreadScope:
    """Whose threads an event's name means: equal names of two values are two threads."""

    path: str
    value: str


def thread_scope(
    headers: EventHeaders, event: WorkflowEvent, path: str | None
) -> ThreadScope | None:
    """Return the scope in which an event names its thread; None where it needs none.

    Args:
        headers: The event's.
        event: The event.
        path: `threads.scope`: the dotted path of the field that says it; None for no scopes.

    Raises:
        RecordError: It names a thread, and has no such field.
    """
    if path is None or headers.named_thread is None:
        return None
    found: object = event
    for name in path.split("."):
        if isinstance(found, BaseModel):
            found = (vars(found) | (found.model_extra or {})).get(name)
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 2**63:
        found = str(found)
    if not isinstance(found, str) or not 0 < len(found) <= MAX_ID_CHARS:
        raise RecordError(
            f"header 'redrive-thread' names a thread, and the event does not say whose: {path!r} "
            f"(threads.scope) is to be text of 1 to {MAX_ID_CHARS} characters or a whole number; "
            "set it, or name no thread",
            field=path,
        )
    return ThreadScope(path, found)


def extra_headers(given: Mapping[str, object]) -> list[tuple[str, bytes]]:
    """Return a producer's own headers as Kafka takes them.

    Raises:
        RecordError: One is no text, has no name, or is named as ours are; names the header.
    """
    found = []
    for name, value in given.items():
        if not name or name.startswith(_OURS):
            raise RecordError(
                f"header {name!r} cannot be set: {_OURS}… are redrive's own, and it needs a name",
                field=name,
            )
        if not isinstance(value, str) or _HALF_CHARACTER.search(name + value):
            raise RecordError(f"header {name!r} is not text: give it a str", field=name)
        found.append((name, value.encode()))
    return found


def _header(name: str, value: bytes) -> Any:  # noqa: ANN401 - text, a number or a mode
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise RecordError(f"header {name!r} is not UTF-8", field=name) from None
    if name in _NUMBERS:
        if not text.isascii() or not text.isdecimal() or len(text) > MAX_DIGITS:
            raise RecordError(f"header {name!r}: {text[:40]!r} is not a whole number", field=name)
        return _moment(name, int(text)) if name in _MOMENTS else int(text)
    if name == "redrive-mode" and text not in ("resume", "restart"):
        raise RecordError(
            f"header {name!r}: {text[:40]!r} is neither resume nor restart", field=name
        )
    limit = MAX_HISTORY_CHARS if name == "redrive-history" else MAX_HEADER_CHARS
    if len(text) > limit:
        raise RecordError(
            f"header {name!r} has {len(text)} characters, more than {limit}", field=name
        )
    return text


def _moment(name: str, epoch_ms: int) -> int:
    if epoch_ms > _LAST_MS:
        raise RecordError(
            f"header {name!r}: {epoch_ms} is after the year 9999; it counts milliseconds",
            field=name,
        )
    return epoch_ms


def _header_names(names: Iterable[str]) -> dict[str, str]:
    return {n if n == "traceparent" else f"{_OURS}{n.replace('_', '-')}": n for n in names}


_BY_HEADER = _header_names(f.name for f in fields(EventHeaders))
_NUMBERS = frozenset(
    f"redrive-{n}" for n in ("generation", "attempt", "not-before", "deadline", "count", "letters")
)
_MOMENTS = frozenset({"redrive-deadline", "redrive-not-before"})
_NEEDED = frozenset({"redrive-thread", "redrive-deadline"})
_NO_REDRIVE: dict[str, Any] = {
    "generation": 0,
    "of": None,
    "event": None,
    "count": 0,
    "mode": None,
    "checkpoint": None,
    "source": None,
    "letters": 0,
}
_REDRIVES: Callable[[EventHeaders], tuple[object, ...]] = attrgetter(*_NO_REDRIVE)
_UNMARKED = tuple(_NO_REDRIVE.values())
_LAST_MS = 253_402_300_799_999
_VALUES: Callable[[EventHeaders], tuple[object, ...]] = attrgetter(*_BY_HEADER.values())
_NO_HEADERS = EventHeaders()
# Of `metadata.langgraph`: what a run goes by. The rest is for traces.
_GIVEN = ("configurable", "context")
# As Python's JSON has them; within a text it may find more, which costs a second look.
_WHOLE_FLOAT = re.compile(r"[\[:,]-?[0-9.]+(?:\.0|e\+[0-9]+)[,\]}]")
