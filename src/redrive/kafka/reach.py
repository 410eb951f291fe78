"""Waits for a broker, or a topic, that is not there yet; topics are listed, never asked by name."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ClusterMetadata,
)

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError
from redrive.kafka.client import admin_config
from redrive.kafka.connect import make_admin
from redrive.kafka.options import KafkaSettings
from redrive.units import format_duration

__all__ = ["look_again", "reach"]

_STEP_S = 3.0
# A created topic is not listed at once: of 40 that were looked for right after, 23 were missing.
_LOOK_AGAIN_FOR_S = 3.0
_LOOK_STEP_S = 0.1

_log = structlog.get_logger(__name__)


def reach(settings: KafkaSettings, *, clock: Clock = SYSTEM) -> tuple[AdminClient, ClusterMetadata]:
    """Return a client of a broker that answers, and the list of all its topics.

    Raises:
        KafkaUnavailableError: None answered within `kafka.startup_timeout`.
        SettingsError: librdkafka refuses an option of `kafka.config`.
    """
    said: list[str] = []
    admin = make_admin(admin_config(settings), on_error=lambda error: said.append(error.str()))
    limit_s = settings.startup_timeout.total_seconds()
    start = clock.monotonic()
    while True:
        left_s = limit_s - (clock.monotonic() - start)
        try:
            return admin, admin.list_topics(timeout=max(0.1, min(_STEP_S, left_s)))
        except KafkaException as silent:
            admin.poll(0)
            why = said[-1] if said else silent.args[0].str()
            waited_s = clock.monotonic() - start
            if waited_s >= limit_s:
                raise _unavailable(settings, why) from silent
            _log.warning(
                "broker.waiting",
                servers=settings.bootstrap_servers,
                waited_s=round(waited_s, 1),
                of_s=limit_s,
                error=why,
            )
            # Some errors come back at once.
            clock.block(min(0.5, limit_s - waited_s))


def look_again(
    admin: AdminClient, there: ClusterMetadata, wanted: Iterable[str], *, clock: Clock = SYSTEM
) -> ClusterMetadata:
    """Return a list that has all `wanted` topics, or the last one after three seconds without."""
    names = set(wanted)
    until = clock.monotonic() + _LOOK_AGAIN_FOR_S
    while not names <= there.topics.keys() and clock.monotonic() < until:
        clock.block(_LOOK_STEP_S)
        there = admin.list_topics(timeout=_STEP_S)
    return there


def _unavailable(settings: KafkaSettings, why: str) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"no Kafka broker at {settings.bootstrap_servers} answered within "
        f"{format_duration(settings.startup_timeout)} ({why}): check "
        "kafka.bootstrap_servers, that the broker runs, that its advertised address can be "
        "reached from here, and the security options in kafka.config"
    )
