"""Where partitions begin and end, and the latest time that a record of theirs bears; read only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ListOffsetsResultInfo,
    OffsetSpec,
)

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError
from redrive.kafka.log import Place
from redrive.kafka.options import KafkaSettings
from redrive.kafka.retrying import error_of, until, with_advice
from redrive.retry import retry

__all__ = ["Edges", "edges", "newest_times"]

_CALL_S = 3.0


@dataclass(frozen=True, slots=True)
class Edges:
    """The first offset of a partition, and the one that its next record gets."""

    first: int
    end: int


def edges(
    settings: KafkaSettings, admin: AdminClient, places: Iterable[Place], *, clock: Clock = SYSTEM
) -> dict[Place, Edges]:
    """Return where each of these partitions begins and ends for a read-committed reader.

    Raises:
        KafkaUnavailableError: A partition's leader did not say within `kafka.startup_timeout`.
    """
    wanted = list(places)
    firsts = _listed(settings, admin, wanted, OffsetSpec.earliest(), clock)  # type: ignore[no-untyped-call]  # the client's own
    ends = _listed(settings, admin, wanted, OffsetSpec.latest(), clock)  # type: ignore[no-untyped-call]  # as above
    return {place: Edges(firsts[place].offset, ends[place].offset) for place in wanted}


def newest_times(
    settings: KafkaSettings, admin: AdminClient, places: Iterable[Place], *, clock: Clock = SYSTEM
) -> dict[Place, datetime]:
    """Return the latest timestamp in each of these partitions; those without a record are left out.

    Raises what `edges` raises.
    """
    told = _listed(settings, admin, list(places), OffsetSpec.max_timestamp(), clock)  # type: ignore[no-untyped-call]  # as above
    return {
        place: datetime.fromtimestamp(info.timestamp / 1000, UTC)
        for place, info in told.items()
        if info.timestamp >= 0
    }


def _listed(
    settings: KafkaSettings,
    admin: AdminClient,
    places: list[Place],
    spec: OffsetSpec,
    clock: Clock,
) -> dict[Place, ListOffsetsResultInfo]:
    def ask() -> dict[Place, ListOffsetsResultInfo]:
        asked = admin.list_offsets(
            {TopicPartition(*place): spec for place in places},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=_CALL_S,
        )
        return {
            Place(part.topic, part.partition): future.result() for part, future in asked.items()
        }

    if not places:
        return {}
    policy = until(settings.startup_timeout.total_seconds(), asking="for offsets", clock=clock)
    try:
        return retry(policy)(ask)()
    except KafkaException as error:
        raise KafkaUnavailableError(
            f"Kafka at {settings.bootstrap_servers} did not say where partitions end: "
            f"{with_advice(error_of(error))}. Check that the addresses which it advertises can be "
            "reached from here, and the rights of this user"
        ) from error
