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
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.retrying import Said, ask, error_of, step_of, until, with_advice
from redrive.retry import FailedAttempt, retry
from redrive.units import format_duration

__all__ = ["look_again", "reach"]

_STEP_S = 3.0
_FIRST_STEP_S = 1.0
# A created topic is not listed at once: of 40 that were looked for right after, 23 were missing.
_LOOK_AGAIN_FOR_S = 3.0
_LOOK_STEP_S = 0.1

_log = structlog.get_logger(__name__)


def reach(settings: KafkaSettings, *, clock: Clock = SYSTEM) -> tuple[AdminClient, ClusterMetadata]:
    """Return a client of a broker that answers, and the list of all its topics.

    Raises:
        KafkaUnavailableError: None answered within `kafka.startup_timeout`.
        SettingsError: librdkafka refuses an option of `kafka.config`, or the broker refuses who
            we say we are: this is raised at once, since waiting does not help.
    """
    said = Said(settings.bootstrap_servers)
    try:
        admin = make_admin(admin_config(settings), on_error=said)
    except KafkaException as silent:
        raise _unavailable(settings, silent) from silent
    limit_s = settings.startup_timeout.total_seconds()
    start = clock.monotonic()
    step_s = _FIRST_STEP_S

    def list_all() -> ClusterMetadata:
        # The first step is short: whether we are let in at all is known soon.
        nonlocal step_s
        left_s = limit_s - (clock.monotonic() - start)
        timeout_s, step_s = max(0.1, min(step_s, left_s)), _STEP_S
        return ask(admin, said, lambda: admin.list_topics(timeout=timeout_s))

    def waiting(failed: FailedAttempt) -> None:
        _log.warning(
            "broker.waiting",
            servers=settings.bootstrap_servers,
            waited_s=round(clock.monotonic() - start, 1),
            of_s=limit_s,
            **step_of(failed),
        )

    policy = until(limit_s, asking="for a broker", clock=clock, waiting=waiting)
    try:
        return admin, retry(policy)(list_all)()
    except KafkaException as silent:
        raise _unavailable(settings, silent) from silent


def look_again(
    settings: KafkaSettings,
    admin: AdminClient,
    there: ClusterMetadata,
    wanted: Iterable[str],
    *,
    clock: Clock = SYSTEM,
) -> ClusterMetadata:
    """Return a list that has all `wanted` topics, or the last one after three seconds without.

    Raises:
        KafkaUnavailableError: The broker went away, for longer than `kafka.startup_timeout`.
    """
    names = set(wanted)
    end = clock.monotonic() + _LOOK_AGAIN_FOR_S
    policy = until(
        settings.startup_timeout.total_seconds(), asking="for the list of topics", clock=clock
    )
    list_all = retry(policy)(lambda: admin.list_topics(timeout=_STEP_S))
    while not names <= there.topics.keys() and clock.monotonic() < end:
        clock.block(_LOOK_STEP_S)
        try:
            there = list_all()
        except KafkaException as silent:
            raise _unavailable(settings, silent) from silent
    return there


def _unavailable(settings: KafkaSettings, silent: KafkaException) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"no Kafka broker at {settings.bootstrap_servers} answered within "
        f"{format_duration(settings.startup_timeout)} ({with_advice(error_of(silent))}): check "
        "kafka.bootstrap_servers, that the broker runs, that its advertised address can be "
        "reached from here, and the security options in kafka.config"
    )
