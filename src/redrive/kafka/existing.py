"""Is a topic there? Asked by listing all, never by name: asking for one can create it (R4)."""

from __future__ import annotations

from redrive.clock import SYSTEM, Clock
from redrive.errors import SettingsError
from redrive.kafka.broker_wait import look_again, reach
from redrive.kafka.kafka_settings import KafkaSettings

__all__ = ["partitions_of"]


def partitions_of(settings: KafkaSettings, topic: str, *, clock: Clock = SYSTEM) -> frozenset[int]:
    """Return the numbers of the topic's partitions; one that was just created is waited for.

    Raises:
        KafkaUnavailableError: No broker answered within `kafka.startup_timeout`.
        SettingsError: The topic does not exist, or the broker refuses who we say we are.
    """
    admin, there = reach(settings, clock=clock)
    there = look_again(settings, admin, there, [topic], clock=clock)
    if topic not in there.topics:
        raise SettingsError(
            f"topic {topic!r} does not exist at {settings.bootstrap_servers}: "
            "create it with `redrive topics create`"
        )
    return frozenset(there.topics[topic].partitions)
