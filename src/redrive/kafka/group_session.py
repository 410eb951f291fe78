"""How long the group itself keeps a silent member's partitions: with KIP-848 the broker says it."""

from __future__ import annotations

from datetime import timedelta

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    ResourceType,
)

from redrive.clock import SYSTEM, Clock
from redrive.kafka.broker_wait import reach
from redrive.kafka.kafka_settings import GroupProtocol, KafkaSettings
from redrive.kafka.retrying import error_of, told

__all__ = ["session_of_group", "within_session"]

log = structlog.get_logger("redrive.kafka")

_CALL_S = 3.0
_OPTION = "consumer.session.timeout.ms"
_NOT_TOLD = (
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.INVALID_REQUEST,
    KafkaError.UNSUPPORTED_VERSION,
)


def within_session(settings: KafkaSettings, *, clock: Clock = SYSTEM) -> KafkaSettings:
    """Return settings whose `session_timeout` is not longer than the group's own.

    Whoever sleeps for longer than the group's would go on with partitions that are another's. [P2]

    Raises:
        KafkaUnavailableError: The broker did not answer within `kafka.startup_timeout`.
        SettingsError: The broker refuses who we say we are.
    """
    if settings.group_protocol is GroupProtocol.CLASSIC:
        return settings
    admin, there = reach(settings, clock=clock)
    found = session_of_group(settings, admin, there, clock=clock)
    ours = settings.session_timeout
    if found is None:
        log.warning("group.session_unknown", assumed_s=ours.total_seconds())
    elif found < ours:
        log.warning(
            "group.session_shorter", group_s=found.total_seconds(), ours_s=ours.total_seconds()
        )
        return settings.model_copy(update={"session_timeout": found})
    return settings


def session_of_group(
    settings: KafkaSettings, admin: AdminClient, there: ClusterMetadata, *, clock: Clock = SYSTEM
) -> timedelta | None:
    """Return it; None where it may not be read, or the broker knows no such thing.

    Args:
        settings: Which group.
        admin: Who asks.
        there: What it was told of the cluster.
        clock: For the time it may take.

    Raises:
        KafkaUnavailableError: The broker did not say within `kafka.startup_timeout`.
    """
    # The broker inside the wheel has no controller, and no answer to this.
    if there.controller_id not in there.brokers:
        return None
    group = ConfigResource(ResourceType.GROUP, settings.group_id)

    def read() -> timedelta | None:
        asked = admin.describe_configs([group], request_timeout=_CALL_S)
        try:
            entry = asked[group].result().get(_OPTION)
        except KafkaException as error:
            if error_of(error).code() in _NOT_TOLD:
                return None
            raise
        return None if entry is None else timedelta(milliseconds=int(entry.value))

    return told(settings, read, what=f"how group {settings.group_id!r} is set up", clock=clock)
