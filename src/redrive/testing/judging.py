"""The judge: reads the topics and the committed offsets, never a worker's memory.

It says what is lost, doubled, altered or left open. One result per event record is the rule (P2),
one whole letter per event that was given up (P6), offsets at the end with nothing behind them (P3).
An event that a producer published twice may be answered once per record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import STATE_HEADERS
from redrive.errors import RecordError
from redrive.events import TRIGGERED, WorkflowEvent, WorkflowResultEvent, readable_event_id
from redrive.kafka.log import Committed, Place, Record
from redrive.state.offsets import MAX_NOTE_CHARS, decode
from redrive.testing.reading import committed_offsets, end_offsets, read_topic
from redrive.testing.topics import Topics

__all__ = ["Evidence", "Verdict", "gather", "judge"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the topics and the group say at the end of a run."""

    events: list[Record]
    results: list[Record]
    letters: list[Record]
    committed: Mapping[Place, Committed]
    ends: Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found; `findings` is empty when every promise was kept."""

    findings: list[str]
    results: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings

    @property
    def lost(self) -> int:
        """How many events, or letters that a result names, are lost."""
        return sum(finding.startswith("lost:") for finding in self.findings)

    @property
    def doubled(self) -> int:
        """How many events have more endings than records, or more than one letter."""
        return sum(finding.startswith("doubled:") for finding in self.findings)


def gather(bootstrap_servers: str, topics: Topics) -> Evidence:
    """Read everything there is to judge."""
    return Evidence(
        events=read_topic(bootstrap_servers, topics.events, whole=True),
        results=read_topic(bootstrap_servers, topics.results, whole=True),
        letters=read_topic(bootstrap_servers, topics.dlq, whole=True),
        committed=committed_offsets(bootstrap_servers, topics.events, topics.group),
        ends=end_offsets(bootstrap_servers, topics.events),
    )


def judge(evidence: Evidence) -> Verdict:
    """Check the promises that topics can show: P1, P2, P3, P6."""
    evidence = replace(evidence, letters=[r for r in evidence.letters if not _is_state(r)])
    results = [WorkflowResultEvent.from_bytes(record.value) for record in evidence.results]
    letters = [DeadLetter.model_validate_json(record.value or b"") for record in evidence.letters]
    findings = [
        *_answers(evidence.events, results),
        *_letters(evidence, letters, results),
        *_offsets(evidence),
    ]
    return Verdict(
        findings,
        results=Counter(result.status.value for result in results),
        letters=Counter(letter.reason.value for letter in letters),
    )


def _answers(events: list[Record], results: list[WorkflowResultEvent]) -> Iterable[str]:
    wanted = Counter(event_id for record in events if (event_id := _answered(record)) is not None)
    given = Counter(result.correlation_id for result in results)
    for event_id, count in wanted.items():
        if given[event_id] != count:
            what = "lost" if given[event_id] < count else "doubled"
            yield f"{what}: event {event_id} has {given[event_id]} results for {count} record(s)"
    unasked = sorted(given.keys() - wanted.keys())
    yield from (f"a result for {event_id}, which nobody sent" for event_id in unasked)


def _answered(record: Record) -> str | None:
    try:
        event = WorkflowEvent.from_bytes(record.value)
    except RecordError:
        return readable_event_id(record.value)
    return event.event_id if event.event_type == TRIGGERED else None


def _letters(
    evidence: Evidence, letters: list[DeadLetter], results: list[WorkflowResultEvent]
) -> Iterable[str]:
    sources = {(record.place, record.offset): record for record in evidence.events}
    seen: Counter[tuple[Place, int]] = Counter()
    for letter, record in zip(letters, evidence.letters, strict=True):
        at = (Place(letter.source.topic, letter.source.partition), letter.source.offset)
        seen[at] += 1
        source = sources.get(at)
        if source is None:
            yield f"letter {letter.dlq_id} is of a record that is not there: {at}"
        elif not _whole(letter, source, record):
            yield f"letter {letter.dlq_id} is not byte-equal to its event {at}"
    yield from (
        f"doubled: {count} letters for the event at {at}" for at, count in seen.items() if count > 1
    )
    named = {r.error_info.dlq_id for r in results if r.error_info and r.error_info.dlq_id}
    stored = {letter.dlq_id for letter in letters}
    yield from (
        f"lost: a result names the letter {dlq_id}, which is not there" for dlq_id in named - stored
    )
    for (place, offset), record in sources.items():
        if _unreadable(record) and not seen[place, offset]:
            yield f"lost: the unreadable event at {place}, {offset} has no letter"


def _whole(letter: DeadLetter, source: Record, record: Record) -> bool:
    kept = letter.source
    return (
        (kept.key, kept.value, tuple(kept.headers)) == (source.key, source.value, source.headers)
        and record.key == source.key
        and record.place.partition == source.place.partition
    )


def _is_state(record: Record) -> bool:
    return set(STATE_HEADERS) <= set(record.headers)


def _unreadable(record: Record) -> bool:
    try:
        WorkflowEvent.from_bytes(record.value)
    except RecordError:
        return True
    return False


def _offsets(evidence: Evidence) -> Iterable[str]:
    for place, end in evidence.ends.items():
        committed = evidence.committed.get(place, Committed(None, None))
        if end and committed.offset != end:
            yield f"{place} is committed at {committed.offset}, and ends at {end}"
        if len(committed.metadata or "") > MAX_NOTE_CHARS:
            yield f"{place} has {len(committed.metadata or '')} characters of metadata"
        note = decode(committed.metadata)
        if note is not None and (note.finished or note.entries):
            yield f"{place} is at its end, and its note still speaks of offsets"
