"""How long the topics keep what may need a thread of checkpoints, and whose topics they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from redrive.clock import Clock
from redrive.errors import RedriveError
from redrive.graphs.checkpoint_file import Deployment
from redrive.graphs.retention import Kept
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_admin import TopicReport, verify_topics
from redrive.kafka.topic_rules import longest_kept

__all__ = ["deployment_name", "retention_of"]

log = structlog.get_logger("redrive.worker")

# What is known from before will do.
_PATIENCE = timedelta(seconds=5)


def deployment_name(settings: KafkaSettings, cluster: str | None) -> str:
    """Return what tells the runs of one deployment from those of others on the same file."""
    parts = (cluster or "", settings.group_id, settings.events_topic, settings.dlq_topic)
    return "/".join(parts)


def retention_of(
    settings: KafkaSettings, report: TopicReport, clock: Clock
) -> Callable[[], Deployment | None]:
    """Return what tells how long the topics keep records.

    Args:
        settings: How to reach Kafka.
        report: What was found of the topics at the start; the first call says this.
        clock: For times, and how long the broker may take.
    """
    known: list[TopicReport] = [report]
    patient = settings.model_copy(update={"startup_timeout": _PATIENCE})

    def ask() -> Deployment | None:
        try:
            seen = known.pop() if known else verify_topics(patient, clock=clock)
        except RedriveError as error:
            log.info("checkpoints.retention_not_read", error=str(error))
            return None
        kept = Kept(
            events=longest_kept(seen.configs.get(settings.events_topic)),
            letters=longest_kept(seen.configs.get(settings.dlq_topic)),
        )
        return Deployment(deployment_name(settings, seen.cluster), kept, clock.now())

    return ask
