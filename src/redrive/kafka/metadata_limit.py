"""How many characters brokers take beside a committed offset: their `offset.metadata.max.bytes`."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    ResourceType,
)

__all__ = ["NOTE_LIMIT_OPTION", "note_limit"]

NOTE_LIMIT_OPTION = "offset.metadata.max.bytes"
_CALL_S = 3.0
_MOST_ASKED = 5


def note_limit(admin: AdminClient, there: ClusterMetadata) -> int | None:
    """Return the smallest limit of a few brokers; None where none of them tells.

    Each may be the group's coordinator, now or later. They are set up alike as a rule, and what one
    refuses is told by the refusal. Who has no right to ask works with what brokers take unless they
    are told otherwise.

    Args:
        admin: Who asks.
        there: What it was told of the cluster.
    """
    # One request is for one broker; all are on their way at the same time.
    asked = [
        admin.describe_configs(
            [ConfigResource(ResourceType.BROKER, str(broker))], request_timeout=_CALL_S
        )
        for broker in sorted(there.brokers)[:_MOST_ASKED]
    ]
    found = list[int]()
    for future in (future for one in asked for future in one.values()):
        try:
            entry = future.result().get(NOTE_LIMIT_OPTION)
        except KafkaException:
            continue
        if entry is not None and entry.value is not None:
            found.append(int(entry.value))
    return min(found, default=None)
