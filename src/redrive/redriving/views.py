"""All letters of the topic at once: small summaries, folded from letters and their state records.

A letter itself stays on the topic, and is read again by its offset where the whole of it is needed
(`redrive.redriving.letters.records_at`).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import TypeVar

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.redact import BUILT_IN, MAX_MESSAGE_CHARS
from redrive.dead_letter.states import LetterState, State
from redrive.events import readable_event_id
from redrive.kafka.log import Record
from redrive.kafka.options import KafkaSettings
from redrive.redriving.letters import letter_records
from redrive.redriving.slim import SlimLetter, read_slimly
from redrive.retry.kinds import Kind, Reason

__all__ = ["LETTER_BYTES", "LetterSummary", "LettersView", "fold", "read_letters"]

MAX_LINE_CHARS = 160
MAX_NAME_CHARS = 200
_TEXTS_REMEMBERED = 1_000
LETTER_BYTES = 700
"""What a letter takes in memory here, about; measured with 100,000 (`benchmarks/letters.py`)."""


@dataclass(frozen=True, slots=True)
class LetterSummary:
    """What a list says of one letter.

    Texts are cut: `message` is the first line of the error's, masked, at most 160 characters, names
    at most 200. `actor` and `state_at` are of the last state record, None while there is none.
    `graph_version` is that of the graph that failed, where one ran.
    """

    dlq_id: str
    event_id: str | None
    workflow: str | None
    kind: Kind
    reason: Reason
    node: str | None
    fingerprint: str | None
    error_type: str
    message: str
    at: datetime
    redrive_count: int
    partition: int
    offset: int
    state: State = State.OPEN
    state_at: datetime | None = None
    actor: str | None = None
    graph_version: str | None = None


@dataclass(frozen=True, slots=True)
class LettersView:
    """The letters of a topic, newest first, and what else lies there.

    Attributes:
        letters: One summary for each `dlq_id`.
        repeated: Letters beside those whose `dlq_id` lies there again; the last one counts.
        states: State records, also of letters that are gone already.
        unknown: Records that are neither a letter nor a state.
    """

    letters: tuple[LetterSummary, ...]
    repeated: int = 0
    states: int = 0
    unknown: int = 0


def read_letters(settings: KafkaSettings, *, clock: Clock = SYSTEM) -> LettersView:
    """Read the letters topic from its beginning to where it ends now.

    Memory grows by about `LETTER_BYTES` a letter, whatever the letters' own sizes.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: The topic does not exist, or the client's options cannot work.
    """
    with closing(letter_records(settings, clock=clock)) as records:
        return fold(records)


def fold(records: Iterable[Record]) -> LettersView:
    """Return the view of these records, each partition in its order.

    A letter is in the state of the last of its state records; a letter that lies there twice is
    shown as, and where, it lies last. Last is by offset within a partition, by time between two.
    """
    letters: _ByPartition[LetterSummary] = {}
    states: _ByPartition[_LastState] = {}
    letter_records = state_records = unknown = 0
    for record in records:
        partition = record.place.partition
        found = read_slimly(record)
        if found is None:
            unknown += 1
        elif isinstance(found, LetterState):
            state_records += 1
            states.setdefault(partition, {})[found.dlq_id] = _LastState.of(found)
        else:
            letter_records += 1
            letters.setdefault(partition, {})[found["dlq_id"]] = _summary(record, found)
    kept, last_states = _latest(letters), _latest(states)
    whole = (_with_state(letter, last_states.get(key)) for key, letter in kept.items())
    return LettersView(
        letters=tuple(sorted(whole, key=lambda letter: (letter.at, letter.dlq_id), reverse=True)),
        repeated=letter_records - len(kept),
        states=state_records,
        unknown=unknown,
    )


@dataclass(frozen=True, slots=True)
class _LastState:
    state: State
    at: datetime
    actor: str

    @classmethod
    def of(cls, record: LetterState) -> _LastState:
        return cls(record.state, _utc(record.timestamp), intern(_short(record.actor)))


_Dated = TypeVar("_Dated", LetterSummary, _LastState)
_ByPartition = dict[int, dict[str, _Dated]]


def _latest(found: _ByPartition[_Dated]) -> dict[str, _Dated]:
    merged: dict[str, _Dated] = {}
    for _, of_partition in sorted(found.items()):
        for key, item in of_partition.items():
            before = merged.get(key)
            if before is None or before.at <= item.at:
                merged[key] = item
    return merged


def _with_state(letter: LetterSummary, last: _LastState | None) -> LetterSummary:
    if last is None:
        return letter
    return replace(letter, state=last.state, state_at=last.at, actor=last.actor)


def _summary(record: Record, letter: SlimLetter) -> LetterSummary:
    return LetterSummary(
        dlq_id=letter["dlq_id"],
        event_id=readable_event_id(letter.get("value")),
        workflow=_interned(letter.get("workflow_id")),
        kind=letter["kind"],
        reason=letter["reason"],
        node=_interned(letter.get("node")),
        fingerprint=_interned(letter.get("fingerprint")),
        error_type=intern(_short(letter["error_type"])),
        message=intern(_told(letter["message"])),
        at=_utc(letter["timestamp"]),
        redrive_count=letter.get("redrive_count", 0),
        partition=record.place.partition,
        offset=record.offset,
        graph_version=_interned(letter.get("graph_version")),
    )


def _interned(text: str | None) -> str | None:
    return None if text is None else intern(_short(text))


def _short(text: str) -> str:
    return text if len(text) <= MAX_NAME_CHARS else text[: MAX_NAME_CHARS - 1] + "…"


@lru_cache(_TEXTS_REMEMBERED)
def _told(text: str) -> str:
    """Return the first line, masked: a worker has done that, other writers of letters may not."""
    line = BUILT_IN.excerpt(text.strip(), MAX_MESSAGE_CHARS).partition("\n")[0].rstrip()
    return line if len(line) <= MAX_LINE_CHARS else line[: MAX_LINE_CHARS - 1] + "…"


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)
