"""Where a run is now: its event records, how far the group is with them, its results and letters.

All of it is read from the topics and from the group's commits; no worker is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from redrive.clock import SYSTEM, Clock, moment
from redrive.dead_letter.driven import ClaimedRedrive
from redrive.dead_letter.states import State
from redrive.errors import RecordError
from redrive.events import EventHeaders, WorkflowResultEvent, readable_event_id
from redrive.group_commits import group_commits
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.kafka.scan import scan
from redrive.redriving.letters_topic import LetterStory, find_stories
from redrive.signatures import NO_TRUST, Verifier
from redrive.state.commit_metadata import OffsetEntry, commit_metadata_of

__all__ = [
    "EventRecord",
    "RecordProgress",
    "RunResult",
    "RunStatus",
    "RunStory",
    "find_run",
    "progress_of",
]

EVERY_RECORDS = 100_000
"""After so many records that were read, the caller is told."""
# Two hosts' clocks differ: a result may seem older than its event.
_SKEW = timedelta(minutes=5)


class RunStatus(StrEnum):
    """How far the group is with one event record.

    `waiting`: its turn, or the time of its next attempt, has not come. `may be running`: an attempt
    may start without a further commit, or runs. `ended`: its outcome is settled.
    """

    WAITING = "waiting"
    MAY_BE_RUNNING = "may be running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class RecordProgress:
    """Where an event record stands.

    `failed` counts its attempts that failed, `crashes` the deaths of workers while it may have run:
    both as the last commit says, and None once it has ended or where the commit says nothing.
    """

    status: RunStatus
    failed: int | None = None
    crashes: int | None = None


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One record of the event; a redrive, or a producer that published twice, makes further ones.

    `at` is the record's timestamp. `count` is how often it was driven, as its letters say: 0 for
    one that only says so itself, None where the letter that it names is not found.
    """

    tp: TopicPartition
    offset: int
    at: datetime | None
    count: int | None
    progress: RecordProgress


@dataclass(frozen=True, slots=True)
class RunResult:
    """One result, and where it lies."""

    tp: TopicPartition
    offset: int
    result: WorkflowResultEvent


@dataclass(frozen=True, slots=True)
class RunStory:
    """All that the topics say about one event id, each part oldest first.

    `unreadable` counts records on the results topic under this key that are no results.
    """

    event_id: str
    events: tuple[EventRecord, ...]
    results: tuple[RunResult, ...]
    letters: tuple[LetterStory, ...]
    unreadable: int = 0


def find_run(
    settings: KafkaSettings,
    event_id: str,
    *,
    since: datetime,
    told: Callable[[str, int], object] = lambda _topic, _records: None,
    verifier: Verifier = NO_TRUST.verifier,
    clock: Clock = SYSTEM,
) -> RunStory:
    """Return what the topics say about the run of `event_id`.

    Args:
        settings: How to reach Kafka; whose group.
        event_id: The event's id.
        since: Event records and results that are older are not looked for. Letters are all read.
        told: Called now and then with the topic and how many of its records were read.
        verifier: Says which states of letters count.
        clock: Measures how long nothing came.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: A topic does not exist, or the client's options cannot work.
    """
    letters = find_stories(settings, event_id, verifier, clock=clock)
    records = [
        record
        for record in _read(settings, settings.events_topic, since, told, clock)
        if _is_of(record, event_id)
    ]
    results, unreadable = _results(settings, event_id, since=since - _SKEW, told=told, clock=clock)
    numbers = {record.tp.partition for record in records}
    committed: Mapping[int, Committed] = {}
    if numbers:
        committed = group_commits(settings, settings.events_topic, numbers, clock=clock).now
    events = (_event(record, committed[record.tp.partition], letters) for record in records)
    return RunStory(
        event_id=event_id,
        events=tuple(sorted(events, key=lambda e: (_time_of(e), e.tp, e.offset))),
        results=results,
        letters=tuple(letters),
        unreadable=unreadable,
    )


def progress_of(offset: int, committed: Committed) -> RecordProgress:
    """Return how far the group is with the record at `offset`, by what it has committed."""
    if committed.offset is None:
        return RecordProgress(RunStatus.WAITING)
    ahead = offset - committed.offset
    if ahead < 0:
        return RecordProgress(RunStatus.ENDED)
    metadata = commit_metadata_of(committed.metadata, offset=committed.offset)
    if metadata is None:
        return RecordProgress(RunStatus.WAITING)
    if metadata.finished >> ahead & 1:
        return RecordProgress(RunStatus.ENDED)
    entry = metadata.entries.get(ahead)
    started = entry.started if entry is not None else ahead < metadata.reserved
    known = entry or OffsetEntry()
    status = RunStatus.MAY_BE_RUNNING if started else RunStatus.WAITING
    return RecordProgress(status, known.failed, known.crashes)


def _results(
    settings: KafkaSettings,
    event_id: str,
    *,
    since: datetime,
    told: Callable[[str, int], object],
    clock: Clock,
) -> tuple[tuple[RunResult, ...], int]:
    found, unreadable = [], 0
    for record in _read(settings, settings.results_topic, since, told, clock):
        if record.key != event_id.encode("utf-8", "surrogatepass"):
            continue
        try:
            result = WorkflowResultEvent.from_bytes(record.value)
        except RecordError:
            unreadable += 1
        else:
            found.append(RunResult(record.tp, record.offset, result))
    found.sort(key=lambda one: (one.result.timestamp, one.tp, one.offset))
    return tuple(found), unreadable


def _read(
    settings: KafkaSettings,
    topic: str,
    since: datetime,
    told: Callable[[str, int], object],
    clock: Clock,
) -> Iterator[ConsumerRecord]:
    for count, record in enumerate(scan(settings, topic, since=since, clock=clock), start=1):
        if count % EVERY_RECORDS == 0:
            told(topic, count)
        yield record


def _is_of(record: ConsumerRecord, event_id: str) -> bool:
    # Most are others': looking for the id's bytes is much cheaper than parsing each record.
    wanted = event_id.encode("utf-8", "surrogatepass")
    if wanted not in (record.value or b""):
        return False
    return readable_event_id(record.value) == event_id


def _event(
    record: ConsumerRecord, committed: Committed, letters: Sequence[LetterStory]
) -> EventRecord:
    event_id = readable_event_id(record.value)
    claim = ClaimedRedrive.of_record(
        record, EventHeaders.claimed_by(record.headers, event_id), event_id
    )
    count = 0 if claim is None else _count(claim, letters)
    at = None
    if record.timestamp_ms is not None:
        at = moment(record.timestamp_ms)
    return EventRecord(record.tp, record.offset, at, count, progress_of(record.offset, committed))


def _time_of(event: EventRecord) -> datetime:
    return event.at or datetime.min.replace(tzinfo=UTC)


def _count(claim: ClaimedRedrive, letters: Sequence[LetterStory]) -> int | None:
    stories = [story for story in letters if story.stored.letter.dlq_id == claim.of]
    if not stories:
        return None
    is_so = any(
        state.state is State.REDRIVEN
        and state.redrive_count == claim.count
        and state.sent in (None, claim.sent)
        for story in stories
        for state in story.states
    )
    return claim.count if is_so else 0
