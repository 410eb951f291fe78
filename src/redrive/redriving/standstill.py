"""What of the group's work stands still, and why, as it can be seen from outside of any worker.

Partitions are looked at twice, some seconds apart: what has moved meanwhile is well. Nothing is
changed, and no worker is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient

from redrive.clock import SYSTEM, Clock, moment
from redrive.events import readable_event_id
from redrive.group_commits import GroupCommits, group_commits
from redrive.kafka.committed import GroupNow, group_now, pending_commits
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.kafka.scan import first_records, scan
from redrive.kafka.watermarks import Watermarks, watermarks
from redrive.redriving.backlog import unfinished_spans
from redrive.redriving.run_stories import RecordProgress, RunStatus, progress_of
from redrive.state.commit_metadata import commit_metadata_of

__all__ = ["WATCHED_S", "Head", "OpenTransaction", "Standstill", "look_for_standstill"]

WATCHED_S = 3.0
"""How long partitions are given to move."""
_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that did not end while it was watched: readers see nothing past it.

    Attributes:
        tp: The partition.
        offset: Its first record there.
        behind: How many offsets lie behind it.
        since: When that record was written, by its producer's clock; None where it is not told.
    """

    tp: TopicPartition
    offset: int
    behind: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Head:
    """The first unfinished event of a partition whose commit did not move.

    Attributes:
        offset: Where it lies.
        event_id: Its id, as far as it can be read.
        at: When it was written; None where that is not told.
        progress: How far the group is with it.
        until: Until when it waits for its next attempt; None when it does not.
        owner: Who has the partition; None when no member of the group does.
    """

    offset: int
    event_id: str | None
    at: datetime | None
    progress: RecordProgress
    until: datetime | None
    owner: str | None


@dataclass(frozen=True, slots=True)
class Standstill:
    """What stands still.

    Attributes:
        group: Who is in the group.
        open: Transactions that are open on the topics.
        pending: Partitions of the events whose committed offset nobody can read: a transaction over
            it does not end.
        before: Partitions of the events whose commit is of a topic before this one, and its offset.
        beyond: Partitions of the events whose commit lies beyond their end, with both.
        heads: Partitions of the events with something to do that did not move.
    """

    group: GroupNow
    open: tuple[OpenTransaction, ...] = ()
    pending: tuple[int, ...] = ()
    before: Mapping[int, int] = field(default_factory=dict)
    beyond: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    heads: Mapping[int, Head] = field(default_factory=dict)


def look_for_standstill(
    settings: KafkaSettings,
    admin: AdminClient,
    tps: Collection[TopicPartition],
    *,
    clock: Clock = SYSTEM,
) -> Standstill:
    """Look at the partitions of all topics, and at what the group has committed of the events.

    Args:
        settings: How to reach Kafka; whose group.
        admin: A client of it.
        tps: The partitions to look at; those without a leader cannot be.
        clock: For the time between the two looks.

    Raises:
        KafkaUnavailableError: The broker did not say within `kafka.startup_timeout`.
        SettingsError: The broker refuses who we say we are.
    """
    topic = settings.events_topic
    numbers = sorted(tp.partition for tp in tps if tp.topic == topic)
    group = group_now(settings, admin, clock=clock)
    open_ = _open(settings, admin, tps, clock)
    pending = pending_commits(settings, admin, topic, numbers, clock=clock)
    if pending:
        clock.block(WATCHED_S)
        pending &= pending_commits(settings, admin, topic, numbers, clock=clock)
        if pending:
            still = _still_open(settings, admin, open_, clock)
            return Standstill(group, still, tuple(sorted(pending)))
    first = group_commits(settings, topic, numbers, clock=clock)
    where = watermarks(settings, admin, [TopicPartition(topic, n) for n in numbers], clock=clock)
    todo = unfinished_spans(first.now, where)
    owned = {number for number in todo if TopicPartition(topic, number) in group.owners}
    later = first
    if owned or open_:
        clock.block(WATCHED_S)
        later = group_commits(settings, topic, numbers, clock=clock)
        open_ = _still_open(settings, admin, open_, clock)
    return Standstill(
        group,
        open_,
        before=later.before,
        beyond=_beyond(later, where),
        heads=_heads(settings, _unmoved(todo, first.now, later.now), later.now, group, clock),
    )


def _open(
    settings: KafkaSettings, admin: AdminClient, tps: Collection[TopicPartition], clock: Clock
) -> tuple[OpenTransaction, ...]:
    readable = watermarks(settings, admin, tps, clock=clock)
    uncommitted = IsolationLevel.READ_UNCOMMITTED
    whole = watermarks(settings, admin, tps, isolation=uncommitted, clock=clock)
    at = {tp: span.end for tp, span in readable.items() if span.end < whole[tp].end}
    firsts = first_records(settings, at, clock=clock)
    return tuple(
        OpenTransaction(tp, offset, whole[tp].end - offset, _time_of(firsts.get(tp)))
        for tp, offset in sorted(at.items())
    )


def _still_open(
    settings: KafkaSettings, admin: AdminClient, seen: Collection[OpenTransaction], clock: Clock
) -> tuple[OpenTransaction, ...]:
    now = watermarks(settings, admin, [one.tp for one in seen], clock=clock)
    return tuple(one for one in seen if now[one.tp].end == one.offset)


def _beyond(
    commits: GroupCommits, where: Mapping[TopicPartition, Watermarks]
) -> dict[int, tuple[int, int]]:
    ends = {tp.partition: span.end for tp, span in where.items()}
    return {
        number: (one.offset, ends[number])
        for number, one in commits.now.items()
        if one.offset is not None and one.offset > ends[number]
    }


def _unmoved(
    todo: Mapping[int, tuple[int, int]],
    first: Mapping[int, Committed],
    later: Mapping[int, Committed],
) -> dict[int, tuple[int, int]]:
    return {
        number: (start, min(end, start + _LOOKED_AT))
        for number, (start, end) in todo.items()
        if first[number] == later[number]
    }


def _heads(
    settings: KafkaSettings,
    spans: Mapping[int, tuple[int, int]],
    commits: Mapping[int, Committed],
    group: GroupNow,
    clock: Clock,
) -> dict[int, Head]:
    found: dict[int, Head] = {}
    if not spans:
        return found
    with closing(scan(settings, settings.events_topic, spans=spans, clock=clock)) as records:
        for record in records:
            number = record.tp.partition
            progress = progress_of(record.offset, commits[number])
            if number not in found and progress.status is not RunStatus.ENDED:
                owner = group.owners.get(record.tp)
                found[number] = _head(record, commits[number], progress, owner)
    return found


def _head(
    record: ConsumerRecord, committed: Committed, progress: RecordProgress, owner: str | None
) -> Head:
    metadata = commit_metadata_of(committed.metadata, offset=committed.offset)
    entry = None
    if metadata is not None and committed.offset is not None:
        entry = metadata.entries.get(record.offset - committed.offset)
    until = moment(entry.until * 1000) if entry is not None and entry.until else None
    event_id = readable_event_id(record.value)
    return Head(record.offset, event_id, _time_of(record), progress, until, owner)


def _time_of(record: ConsumerRecord | None) -> datetime | None:
    at_ms = None if record is None else record.timestamp_ms
    return None if at_ms is None else moment(at_ms)
