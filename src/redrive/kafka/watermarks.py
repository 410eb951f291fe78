"""Where partitions begin and end, and the latest time that a record of theirs bears; read only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import IsolationLevel
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ListOffsetsResultInfo,
    OffsetSpec,
)

from redrive.clock import SYSTEM, Clock, moment
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import TopicPartition
from redrive.kafka.retrying import told

__all__ = ["Watermarks", "newest_times", "offsets_since", "watermarks"]

_CALL_S = 3.0


@dataclass(frozen=True, slots=True)
class Watermarks:
    """The first offset of a partition, and the one that its next record gets."""

    first: int
    end: int


def watermarks(
    settings: KafkaSettings,
    admin: AdminClient,
    tps: Iterable[TopicPartition],
    *,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    clock: Clock = SYSTEM,
) -> dict[TopicPartition, Watermarks]:
    """Return where each of these partitions begins and ends for a reader of this isolation.

    Raises:
        KafkaUnavailableError: A partition's leader did not say within `kafka.startup_timeout`.
    """
    wanted = list(tps)
    firsts = _listed(settings, admin, wanted, OffsetSpec.earliest(), isolation, clock)  # type: ignore[no-untyped-call]  # the client's own
    ends = _listed(settings, admin, wanted, OffsetSpec.latest(), isolation, clock)  # type: ignore[no-untyped-call]  # as above
    return {tp: Watermarks(firsts[tp].offset, ends[tp].offset) for tp in wanted}


def newest_times(
    settings: KafkaSettings,
    admin: AdminClient,
    tps: Iterable[TopicPartition],
    *,
    clock: Clock = SYSTEM,
) -> dict[TopicPartition, datetime]:
    """Return the latest timestamp in each of these partitions; those without a record are left out.

    Raises what `watermarks` raises.
    """
    latest = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]  # as above
    found = _listed(settings, admin, list(tps), latest, IsolationLevel.READ_COMMITTED, clock)
    return {tp: moment(info.timestamp) for tp, info in found.items() if info.timestamp >= 0}


def offsets_since(
    settings: KafkaSettings,
    admin: AdminClient,
    tps: Iterable[TopicPartition],
    since: datetime,
    *,
    clock: Clock = SYSTEM,
) -> dict[TopicPartition, int | None]:
    """Return the first offset that bears this time or a later one; None where there is none.

    Raises what `watermarks` raises.
    """
    at = OffsetSpec.for_timestamp(max(round(since.timestamp() * 1000), 0))
    found = _listed(settings, admin, list(tps), at, IsolationLevel.READ_UNCOMMITTED, clock)
    return {tp: info.offset if info.offset >= 0 else None for tp, info in found.items()}


def _listed(
    settings: KafkaSettings,
    admin: AdminClient,
    tps: list[TopicPartition],
    spec: OffsetSpec,
    isolation: IsolationLevel,
    clock: Clock,
) -> dict[TopicPartition, ListOffsetsResultInfo]:
    def ask() -> dict[TopicPartition, ListOffsetsResultInfo]:
        asked = admin.list_offsets(
            {KafkaTopicPartition(*tp): spec for tp in tps},
            isolation_level=isolation,
            request_timeout=_CALL_S,
        )
        return {
            TopicPartition(part.topic, part.partition): future.result()
            for part, future in asked.items()
        }

    if not tps:
        return {}
    hint = (
        ". Check that the addresses which it advertises can be reached from here, and the rights "
        "of this user"
    )
    return told(settings, ask, what="where partitions end", hint=hint, clock=clock)
