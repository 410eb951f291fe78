"""The settings `kafka.*`: where the broker is, the topics' names, what librdkafka is told."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from redrive.units import Duration

__all__ = ["GroupProtocol", "KafkaSettings"]


class GroupProtocol(StrEnum):
    """How the members of the group agree on who has which partitions."""

    CLASSIC = "classic"
    CONSUMER = "consumer"


class KafkaSettings(BaseModel):
    """How to reach Kafka, and the names of the topics and the group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: str = Field("localhost:9092", description="Brokers as host:port,host:port.")
    events_topic: str = Field("workflow-events", description="Where events come from.")
    results_topic: str = Field("workflow-results", description="Where results go.")
    retry_topic: str = Field(
        default_factory=lambda given: f"{given['events_topic']}-retry",
        description="Where long delays wait; by default the events topic's name with -retry.",
    )
    dlq_topic: str = Field("workflow-events-dlq", description="Where dead letters go.")
    group_id: str = Field("redrive", description="The consumer group of the workers.")
    group_protocol: GroupProtocol = Field(
        GroupProtocol.CLASSIC,
        description="`classic`, or `consumer` (KIP-848, Kafka 4.0 or newer).",
    )
    session_timeout: Duration = Field(
        timedelta(seconds=30),
        description="How long a silent worker keeps its partitions. With `consumer` the broker "
        "says that; a worker that slept longer than the shorter of the two reads anew.",
    )
    max_poll_interval: Duration = Field(
        timedelta(minutes=5), description="How long the poll thread may be silent."
    )
    startup_timeout: Duration = Field(
        timedelta(seconds=30), description="How long a broker that is not there yet is waited for."
    )
    transaction_timeout: Duration = Field(
        timedelta(seconds=10), description="How long an open transaction may hold readers back."
    )
    metadata_max_age: Duration = Field(
        timedelta(seconds=10),
        description="How old what clients know of topics may be: new partitions, another leader, a "
        "topic that was deleted and made anew.",
    )
    oauth: str | None = Field(
        None,
        description="The function that gives tokens for `sasl.mechanism = OAUTHBEARER`, as "
        "`module:function`, for every client: it gets `sasl.oauthbearer.config` and returns the "
        "token and when it runs out, in seconds since 1970. `redrive.kafka.tokens:msk_iam` is one "
        "for Amazon MSK with IAM.",
    )
    config: dict[str, str] = Field(
        default_factory=dict,
        description="Any librdkafka option, for every client: SASL, TLS, timeouts.",
    )

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        names = (self.events_topic, self.results_topic, self.retry_topic, self.dlq_topic)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"two of the topics are called {twice[0]!r}: events, results, retry and letters "
                "each need a topic of their own"
            )
        return self
