"""A stage for tests: topics on a real broker, a folder with graphs, a worker's environment.

It knows how to send events of any kind, and to wait until the group has committed all of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer

from redrive.clock import SYSTEM
from redrive.events import Payload, WorkflowEvent
from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.retrying import error_of
from redrive.testing.created_topics import Topics
from redrive.testing.reading import committed_offsets, end_offsets, high_watermarks
from redrive.testing.worker_process import WorkerProcess, wait_until

__all__ = ["KafkaEnv", "event"]

_ANY_PARTITION = -1
_STORED_WITHIN_S = 120.0
"""Longer than a broker on a busy machine is away."""


def event(data: Mapping[str, object], *, workflow_id: str = "fates") -> WorkflowEvent:
    """Return an event with an id of its own."""
    return WorkflowEvent(
        event_id=str(uuid.uuid4()),
        timestamp=SYSTEM.now(),
        source="test",
        workflow_id=workflow_id,
        workflow_run_id="test-run",
        payload=Payload(data=dict(data)),
    )


@dataclass(frozen=True, slots=True)
class KafkaEnv:
    """Where one test plays.

    Args:
        bootstrap_servers: The broker.
        topics: The four topics and the group.
        folder: Where workers run and graphs are found.
        settings: Further REDRIVE_… variables, for every worker.
    """

    bootstrap_servers: str
    topics: Topics
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def kafka_settings(self) -> KafkaSettings:
        """Return the settings `kafka.*` of this stage."""
        return KafkaSettings(
            bootstrap_servers=self.bootstrap_servers,
            events_topic=self.topics.events,
            results_topic=self.topics.results,
            retry_topic=self.topics.retry,
            dlq_topic=self.topics.dlq,
            group_id=self.topics.group,
        )

    def environ(self) -> dict[str, str]:
        """Return the environment of a worker on this stage."""
        return {
            "REDRIVE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "REDRIVE_KAFKA__EVENTS_TOPIC": self.topics.events,
            "REDRIVE_KAFKA__RESULTS_TOPIC": self.topics.results,
            "REDRIVE_KAFKA__RETRY_TOPIC": self.topics.retry,
            "REDRIVE_KAFKA__DLQ_TOPIC": self.topics.dlq,
            "REDRIVE_KAFKA__GROUP_ID": self.topics.group,
            **self.settings,
        }

    def worker(
        self,
        *arguments: str,
        name: str = "worker",
        environ: Mapping[str, str] | None = None,
        supervised: bool = False,
        program: tuple[str, ...] = ("-m", "redrive"),
        own_interpreter: bool = False,
    ) -> WorkerProcess:
        """Return a worker of this stage, not started yet; see `WorkerProcess`."""
        return WorkerProcess(
            self.folder,
            environ=self.environ() | dict(environ or {}),
            arguments=arguments,
            name=name,
            supervised=supervised,
            program=program,
            own_interpreter=own_interpreter,
        )

    def send(
        self,
        values: Iterable[WorkflowEvent | bytes | None],
        *,
        headers: Mapping[str, str] | None = None,
        partition: int | None = None,
    ) -> None:
        """Publish events; bytes go as they are. Returns once all are stored.

        Args:
            values: The events, or what is there instead of one.
            headers: Headers that each of them gets.
            partition: Where they go; None lets the key choose.

        Raises:
            TimeoutError: Not all were stored within two minutes, or the broker refused some.
        """
        carried: dict[str, str | bytes | None] = dict(headers or {})
        place = _ANY_PARTITION if partition is None else partition
        reports: list[KafkaError | None] = []
        count = 0
        with _producer(self.bootstrap_servers) as producer:
            for count, value in enumerate(values, 1):  # noqa: B007 - counted
                key = None
                if isinstance(value, WorkflowEvent):
                    key, value = value.event_id, value.to_bytes()  # noqa: PLW2901 - as it travels
                producer.produce(
                    self.topics.events,
                    value,
                    key,
                    partition=place,
                    headers=carried,
                    on_delivery=lambda error, _: reports.append(error),
                )
                producer.poll(0)
        # By identity: comparing a KafkaError with None raises.
        refused = [error for error in reports if error is not None]
        stored = len(reports) - len(refused)
        if stored < count:
            why = refused[0] if refused else "no answer"
            raise TimeoutError(f"{count - stored} of {count} records were not stored: {why!s}")

    def settled(self) -> bool:
        """Say whether the group has committed everything there is."""
        return self._settled([])

    def _settled(self, seen: list[object]) -> bool:
        """Say the same, and leave in `seen` what the group has committed."""
        servers, topics = self.bootstrap_servers, self.topics
        try:
            committed = committed_offsets(servers, topics.events, topics.group)
            ends = end_offsets(servers, topics.events)
            marks = high_watermarks(servers, topics.events)
        except KafkaException as silent:
            if error_of(silent).code() != KafkaError._TIMED_OUT:
                raise
            return False  # nothing is settled while a transaction is open, or the broker is busy
        seen[:] = [committed]
        # Behind the last record may lie the marker of its transaction: the offset passes it.
        return all(
            end <= (committed[place].offset or 0) <= max(end, marks[place])
            for place, end in ends.items()
        )

    def wait_settled(self, *, timeout_s: float) -> None:
        """Return once the group has committed everything there is.

        Raises:
            TimeoutError: Nothing more was committed for so many seconds.
        """
        seen: list[object] = []
        wait_until(
            lambda: self._settled(seen),
            timeout_s=timeout_s,
            what="all events settled",
            every_s=0.3,
            progress=lambda: list(seen),
        )


@contextmanager
def _producer(bootstrap_servers: str) -> Iterator[Producer]:
    config = producer_config(KafkaSettings(bootstrap_servers=bootstrap_servers))
    producer = make_producer({**config, "message.timeout.ms": round(_STORED_WITHIN_S * 1000)})
    yield producer
    producer.flush(_STORED_WITHIN_S + 1)
