"""The settings `kafka.*`: where the broker is, the topics' names, what librdkafka is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from redrive.units import Duration

__all__ = ["GroupProtocol", "KafkaSettings", "runs_code"]

_RUN_CODE = {
    "plugin.library.paths": "it loads libraries into this process",
    "sasl.kerberos.kinit.cmd": "it is a command that librdkafka runs; run kinit beside the worker, "
    "and set sasl.kerberos.min.time.before.relogin to 0",
    "ssl.engine.id": "it loads a library into this process",
    "ssl.engine.location": "it loads a library into this process",
    "ssl.providers": "it loads libraries into this process",
}
# librdkafka writes these into a command of the shell.
_IN_COMMAND = ("sasl.kerberos.keytab", "sasl.kerberos.principal", "sasl.kerberos.service.name")
_HARMLESS = re.compile(r"[A-Za-z0-9_@./:+=,-]*")


def runs_code(config: Mapping[str, object]) -> str | None:
    """Say which option of librdkafka would run code that nobody here has chosen; None: none does.

    Whoever may write settings, or an Airflow connection, need not be trusted with that.
    """
    for option, value in config.items():
        name = option.strip().lower()
        if name in _RUN_CODE:
            return f"{option!r} is refused: {_RUN_CODE[name]}"
        if name in _IN_COMMAND and not _HARMLESS.fullmatch(str(value)):
            return (
                f"{option!r} is refused: librdkafka writes it into a command, so it may hold "
                "letters, digits and _@./:+=,- alone"
            )
    return None


class GroupProtocol(StrEnum):
    """How the members of the group agree on who has which partitions."""

    CLASSIC = "classic"
    CONSUMER = "consumer"


class KafkaSettings(BaseModel):
    """How to reach Kafka, and the names of the topics and the group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: str = Field("localhost:9092", description="Brokers as host:port,host:port.")
    events_topic: str = Field("workflow-events", description="The topic that events are read from.")
    results_topic: str = Field(
        "workflow-results", description="The topic that results are written to."
    )
    retry_topic: str = Field(
        default_factory=lambda given: f"{given['events_topic']}-retry",
        description="The topic for long delays. Default: the events topic's name with -retry.",
    )
    dlq_topic: str = Field(
        "workflow-events-dlq", description="The topic that dead letters are written to."
    )
    audit_topic: str | None = Field(
        None,
        description="The topic that records each action on a letter in a chain of hashes, for "
        "longer than letters are kept. Set it for workers and for everyone who works with "
        "letters. Default: no such record.",
    )
    group_id: str = Field("redrive", description="The consumer group of the workers.")
    group_protocol: GroupProtocol = Field(
        GroupProtocol.CLASSIC,
        description="`classic`, or `consumer` (KIP-848, Kafka 4.0 or newer).",
    )
    session_timeout: Duration = Field(
        timedelta(seconds=30),
        description="How long a silent worker keeps its partitions. With `consumer` the broker "
        "decides; a worker that slept longer than the shorter of the two reads its partitions "
        "again.",
    )
    max_poll_interval: Duration = Field(
        timedelta(minutes=5), description="How long the poll thread may go without polling."
    )
    startup_timeout: Duration = Field(
        timedelta(seconds=30),
        description="How long to wait at the start for a broker that is not up yet.",
    )
    transaction_timeout: Duration = Field(
        timedelta(seconds=10),
        description="How long an open transaction may hold up read-committed readers.",
    )
    metadata_max_age: Duration = Field(
        timedelta(seconds=10),
        description="How old the metadata of topics may get before clients refresh it: new "
        "partitions, another leader, a topic that was deleted and created again.",
    )
    oauth: str | None = Field(
        None,
        description="The function that returns tokens for `sasl.mechanism = OAUTHBEARER`, as "
        "`module:function`, for every client: it gets `sasl.oauthbearer.config` and returns the "
        "token and its expiry, in seconds since 1970. `redrive.kafka.tokens:msk_iam` is one for "
        "Amazon MSK with IAM.",
    )
    require_answers: bool = Field(
        default=False,
        description="Whether `redrive send --wait`, Airflow's tasks and its triggerer (by the "
        "variable) accept only a result that names the event record it answers. Results of "
        "earlier versions and of other producers do not name it.",
    )
    config: dict[str, str] = Field(
        default_factory=dict,
        repr=False,  # it holds passwords
        description="Any librdkafka option, for every client: SASL, TLS, timeouts. Options that "
        "load libraries or run commands are refused.",
    )

    @field_validator("config")
    @classmethod
    def _runs_no_code(cls, config: dict[str, str]) -> dict[str, str]:
        if (why := runs_code(config)) is not None:
            raise ValueError(why)
        return config

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        names = [self.events_topic, self.results_topic, self.retry_topic, self.dlq_topic]
        if self.audit_topic is not None:
            names.append(self.audit_topic)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"two of the topics are called {twice[0]!r}: events, results, retry, letters "
                "and audit each need a topic of their own"
            )
        return self
