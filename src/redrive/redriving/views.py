"""All letters of the topic at once: small summaries, folded from letters and their state records.

A letter itself stays on the topic, and is read again by its offset where the whole of it is needed
(`redrive.redriving.letters_topic.records_at`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import Any

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.fold import LetterFold
from redrive.dead_letter.redacted_text import BUILT_IN, MAX_MESSAGE_CHARS
from redrive.dead_letter.sealing import message_in
from redrive.dead_letter.states import LetterState, State
from redrive.dead_letter.vouching import Vouched, told_once, vouched
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord
from redrive.payloads import CLEAR, Payloads
from redrive.redriving.extracts import LetterExtract, descent_of, event_id_in, read_slimly
from redrive.redriving.letters_topic import letter_records
from redrive.retry.kinds import Kind, Reason
from redrive.signatures import NO_TRUST, Verifier

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
    `signed_by` is the key that signed it; without one, `actor` is what its writer calls itself.
    `vouched` says whether the letter may speak for its event.
    `graph_version` is that of the graph that failed, where one ran. `superseded_by` is the newer
    letter of the same event, on the same partition.
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
    superseded_by: str | None = None
    signed_by: str | None = None
    vouched: Vouched = Vouched.YES

    def changed(self, **changes: Any) -> LetterSummary:
        """Return it with other values; its count stays that of the letter itself."""
        return replace(self, **changes | {"redrive_count": self.redrive_count})


@dataclass(frozen=True, slots=True)
class LettersView:
    """The letters of a topic, newest first, and what else lies there.

    Attributes:
        letters: One summary for each letter.
        repeated: Further records of letters that lie there again; the last one counts.
        states: State records, also of letters that are gone already.
        unknown: Records that are neither a letter nor a state.
    """

    letters: tuple[LetterSummary, ...]
    repeated: int = 0
    states: int = 0
    unknown: int = 0


def read_letters(
    settings: KafkaSettings,
    *,
    payloads: Payloads = CLEAR,
    verifier: Verifier = NO_TRUST.verifier,
    clock: Clock = SYSTEM,
) -> LettersView:
    """Read the letters topic from its beginning to where it ends now.

    Memory grows by about `LETTER_BYTES` a letter, whatever the letters' own sizes. Messages that
    are encrypted are read where `payloads` can.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: The topic does not exist, or the client's options cannot work.
    """
    with closing(letter_records(settings, clock=clock)) as records:
        return fold(records, payloads=payloads, verifier=verifier)


def fold(
    records: Iterable[ConsumerRecord],
    *,
    payloads: Payloads = CLEAR,
    verifier: Verifier = NO_TRUST.verifier,
) -> LettersView:
    """Return the view of these records, each partition in its order.

    Where a letter stands, `LetterFold` says. One that lies there twice is shown as, and where, it
    lies last: by offset within a partition, by time between two. Which states count, `verifier`
    says.
    """
    partitions: dict[int, LetterFold[LetterSummary]] = {}
    letter_records = state_records = unknown = 0
    for record in records:
        letters = partitions.setdefault(record.tp.partition, LetterFold())
        found = read_slimly(record, verifier)
        if found is None:
            unknown += 1
        elif isinstance(found, LetterState):
            state_records += 1
            letters.state(_interned_state(found))
        else:
            letter_records += 1
            summary = _summary(record, found, payloads, vouched(record, found["reason"], verifier))
            letters.letter(summary, told_once(record, verifier), descent_of(found))
    kept = _merged(partitions)
    return LettersView(
        letters=tuple(sorted(kept, key=lambda letter: (letter.at, letter.dlq_id), reverse=True)),
        repeated=letter_records - len(kept),
        states=state_records,
        unknown=unknown,
    )


def _merged(partitions: Mapping[int, LetterFold[LetterSummary]]) -> Collection[LetterSummary]:
    """Return the letters of all partitions, one that lies on two of them once.

    An import may have put it on another when the topic had fewer: it stands where it was moved.
    """
    found: dict[tuple[str, str | None], LetterSummary] = {}
    for _, letters in sorted(partitions.items()):
        for letter in letters:
            name = (letter.dlq_id, letter.event_id)
            other = found.get(name)
            found[name] = letter if other is None else _one_of(other, letter)
    return found.values()


def _one_of(one: LetterSummary, other: LetterSummary) -> LetterSummary:
    if (one.vouched is Vouched.YES) != (other.vouched is Vouched.YES):
        return one if one.vouched is Vouched.YES else other
    last = other if one.at <= other.at else one
    moved = [letter for letter in (one, other) if letter.state_at is not None]
    if not moved:
        return last
    stands = max(moved, key=lambda letter: letter.state_at or letter.at)
    return last.changed(
        state=stands.state,
        state_at=stands.state_at,
        actor=stands.actor,
        signed_by=stands.signed_by,
    )


def _interned_state(told: LetterState) -> LetterState:
    """Return it as it is kept with its letter: texts that come often once, times in UTC."""
    at, actor = _utc(told.timestamp), intern(_short(told.actor))
    return told.model_copy(update={"timestamp": at, "actor": actor})


def _summary(
    record: ConsumerRecord, letter: LetterExtract, payloads: Payloads, by: Vouched
) -> LetterSummary:
    event_id, message = event_id_in(letter), letter["message"]
    if sealed := letter.get("sealed"):
        opened = message_in(sealed, payloads, dlq_id=letter["dlq_id"], event_id=event_id)
        message = message if opened is None else opened
    return LetterSummary(
        dlq_id=letter["dlq_id"],
        event_id=event_id,
        workflow=_interned(letter.get("workflow_id")),
        kind=letter["kind"],
        reason=letter["reason"],
        node=_interned(letter.get("node")),
        fingerprint=_interned(letter.get("fingerprint")),
        error_type=intern(_short(letter["error_type"])),
        message=intern(_told(message)),
        at=_utc(letter["timestamp"]),
        redrive_count=letter.get("redrive_count", 0),
        partition=record.tp.partition,
        offset=record.offset,
        graph_version=_interned(letter.get("graph_version")),
        vouched=by,
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
