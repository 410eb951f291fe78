"""What the group has yet to finish: read from the events topic and the group's commits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka.admin import AdminClient

from redrive.clock import SYSTEM, Clock, moment
from redrive.group_commits import group_commits
from redrive.kafka.committed import group_now
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import Committed, TopicPartition
from redrive.kafka.scan import scan
from redrive.kafka.watermarks import Watermarks, watermarks
from redrive.redriving.run_stories import RunStatus, progress_of

__all__ = ["Backlog", "backlog_of", "unfinished_spans"]

_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far the group is behind.

    Attributes:
        unfinished: Events that are not finished, running ones included. Exact up to 100 offsets
            of a partition; beyond, ends of transactions and what is finished past a gap count too.
        oldest: The timestamp of the oldest of them, None when there is none.
        deleted: Offsets that the topic has deleted though the group had not passed them: events,
            or ends of transactions.
        members: How many workers are in the group.
    """

    unfinished: int
    oldest: datetime | None
    deleted: int
    members: int


def backlog_of(
    settings: KafkaSettings,
    admin: AdminClient,
    *,
    partitions: Collection[int],
    clock: Clock = SYSTEM,
) -> Backlog:
    """Return how far `kafka.group_id` is behind on these partitions of the events topic.

    Raises:
        KafkaUnavailableError: The broker did not say within `kafka.startup_timeout`.
        SettingsError: The broker refuses who we say we are.
    """
    topic = settings.events_topic
    # First: where the right to the group lacks, this says so at once, and the next one times out.
    members = group_now(settings, admin, clock=clock).members
    committed = group_commits(settings, topic, partitions, clock=clock).now
    where = watermarks(settings, admin, [TopicPartition(topic, n) for n in partitions], clock=clock)
    spans = unfinished_spans(committed, where)
    seen, oldest = _looked_at(settings, spans, committed, clock)
    return Backlog(
        unfinished=sum(
            seen.get(number, 0) if end - start <= _LOOKED_AT else end - start
            for number, (start, end) in spans.items()
        ),
        oldest=oldest,
        deleted=sum(
            max(0, span.first - offset)
            for tp, span in where.items()
            if (offset := committed[tp.partition].offset) is not None
        ),
        members=members,
    )


def unfinished_spans(
    committed: Mapping[int, Committed], where: Mapping[TopicPartition, Watermarks]
) -> dict[int, tuple[int, int]]:
    """Return, per partition that is not finished to its end, from where and to where."""
    spans = {}
    for tp, span in where.items():
        start = max(committed[tp.partition].offset or 0, span.first)
        if start < span.end:
            spans[tp.partition] = (start, span.end)
    return spans


def _looked_at(
    settings: KafkaSettings,
    spans: Mapping[int, tuple[int, int]],
    committed: Mapping[int, Committed],
    clock: Clock,
) -> tuple[dict[int, int], datetime | None]:
    """Count the unfinished among each partition's first records, and return the oldest's time."""
    if not spans:
        return {}, None
    firsts = {
        number: (start, min(end, start + _LOOKED_AT)) for number, (start, end) in spans.items()
    }
    counts: dict[int, int] = {}
    times: list[int] = []
    with closing(scan(settings, settings.events_topic, spans=firsts, clock=clock)) as records:
        for record in records:
            number = record.tp.partition
            if progress_of(record.offset, committed[number]).status is not RunStatus.ENDED:
                counts[number] = counts.get(number, 0) + 1
                times += [] if record.timestamp_ms is None else [record.timestamp_ms]
    oldest = moment(min(times)) if times else None
    return counts, oldest
