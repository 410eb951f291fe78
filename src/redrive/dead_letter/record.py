"""The dead letter: a run that was given up, whole, with why and where to go on.

Source bytes are kept as base64, byte-exact. When a letter would be larger than its topic allows,
the parsed `original_event` is dropped before anything of the source is.
"""

from __future__ import annotations

import base64
import traceback
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from redrive.events import UtcTime
from redrive.retry.kinds import Kind, Reason

__all__ = [
    "Attempt",
    "Cause",
    "CheckpointRef",
    "DeadLetter",
    "GraphRef",
    "LetterContext",
    "LetterError",
    "Source",
    "cause_chain",
    "dlq_id",
    "kept_attempts",
    "letter_error",
    "readable",
]

MAX_ATTEMPTS_KEPT = 20
MAX_CAUSES_KEPT = 16
MAX_MESSAGE_CHARS = 2_000
MAX_TRACEBACK_CHARS = 16_000

_LETTERS = uuid.UUID("6f0d2b2e-6f1c-5d6a-9a55-1f6f0c3b7a11")


def _from_base64(value: object) -> object:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


Base64Bytes = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(lambda value: base64.b64encode(value).decode("ascii"), when_used="json"),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class LetterError(_Part):
    """The error that ended the run: type, text, and the traceback's last part."""

    type: str
    message: str
    traceback: str | None = None


class Cause(_Part):
    """One link of the chain of causes, root cause first."""

    type: str
    message: str


class Attempt(_Part):
    """One attempt that failed."""

    number: int = Field(ge=1)
    started_at: UtcTime
    ended_at: UtcTime
    kind: Kind
    type: str
    message: str
    delay_s: float | None = None
    worker: str


class Source(_Part):
    """The event's record as it lay on its topic, byte for byte."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None = None
    key: Base64Bytes | None = None
    headers: list[tuple[str, Base64Bytes | None]] = Field(default_factory=list)
    value: Base64Bytes | None = None


class CheckpointRef(_Part):
    """Where the run stopped, in LangGraph's own terms."""

    thread_id: str
    checkpoint_id: str | None = None
    checkpoint_ns: str = ""


class GraphRef(_Part):
    """The graph that ran."""

    name: str
    version: str | None = None


class LetterContext(_Part):
    """What a person looks for first."""

    workflow_id: str | None = None
    workflow_run_id: str | None = None


class DeadLetter(_Part):
    """One record of the letters topic (header `redrive-record: letter`, or absent)."""

    dlq_id: str
    timestamp: AwareDatetime
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
    attempts: list[Attempt] = Field(default_factory=list)
    source: Source
    checkpoint: CheckpointRef | None = None
    graph: GraphRef | None = None
    deadline: AwareDatetime | None = None
    redrive_count: int = Field(0, ge=0)

    def to_bytes(self, *, limit: int | None = None) -> bytes:
        """Return the JSON, without `original_event` when it would be over `limit` bytes."""
        value = self.model_dump_json().encode()
        if limit is not None and len(value) > limit and self.original_event is not None:
            value = self.model_copy(update={"original_event": None}).model_dump_json().encode()
        return value

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers that let a reader filter letters without parsing them."""
        pairs = {
            "redrive-kind": self.kind.value,
            "redrive-reason": self.reason.value,
            "redrive-fingerprint": self.fingerprint,
        }
        return [(name, text.encode()) for name, text in pairs.items() if text is not None]


def dlq_id(topic: str, partition: int, offset: int, *, count: int) -> str:
    """Return the letter's id: the same event given up twice is the same letter."""
    return str(uuid.uuid5(_LETTERS, f"{topic}/{partition}/{offset}/{count}"))


def letter_error(error: BaseException) -> LetterError:
    """Put an exception into a letter, within stated limits."""
    trace = "".join(traceback.format_exception(error))
    return LetterError(
        type=_qualified(error),
        message=readable(str(error)),
        traceback=readable(trace[-MAX_TRACEBACK_CHARS:], limit=MAX_TRACEBACK_CHARS),
    )


def kept_attempts(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return the attempts that a letter keeps: all of a few, else the first and the latest."""
    if len(attempts) <= MAX_ATTEMPTS_KEPT:
        return list(attempts)
    return [attempts[0], *attempts[1 - MAX_ATTEMPTS_KEPT :]]


def cause_chain(error: BaseException) -> list[Cause]:
    """Return the exceptions behind `error` and itself, the root cause first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain and len(chain) < MAX_CAUSES_KEPT:
        chain.append(current)
        hidden = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or hidden
    return [Cause(type=_qualified(e), message=readable(str(e))) for e in reversed(chain)]


def _qualified(error: BaseException) -> str:
    cls = type(error)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def readable(text: str, *, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Return text that any JSON writer takes, cut to `limit` characters.

    Half characters (lone surrogates), which JSON cannot hold, are written as escapes.
    """
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"
