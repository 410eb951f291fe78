"""Where the demo looks: files that other processes write, and the topics, read-committed.

Turns lines and records into facts. Polled by one thread; nothing here waits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from confluent_kafka import TopicPartition as KafkaTopicPartition
from pydantic import TypeAdapter

from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import STATE_HEADERS, LetterState
from redrive.demo.observations import (
    AirflowStep,
    DagEnded,
    EventStored,
    Fact,
    LetterMoved,
    LetterStored,
    NodeRan,
    Observation,
    ResultStored,
    RetryScheduled,
    RunGivenUp,
    TaskEnded,
    TaskStarted,
    WorkerReady,
)
from redrive.errors import KafkaLostError
from redrive.events import WorkflowResultEvent, readable_event_id
from redrive.kafka.client import reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord, record_of

__all__ = ["DemoTopics", "LineFile", "reported", "worker_logged"]

_BATCH = 100
_CLOCKS_AGREE_S = 5.0
_REPORTED: Mapping[str, type] = {
    "step": AirflowStep,
    "task_started": TaskStarted,
    "task_ended": TaskEnded,
    "dag_ended": DagEnded,
    "node_ran": NodeRan,
}
_LOGGED: Mapping[str, type] = {
    "worker.ready": WorkerReady,
    "run.retry_scheduled": RetryScheduled,
    "run.dead_lettered": RunGivenUp,
}

Line = Mapping[str, object]


class LineFile:
    """A file that grows by JSON lines; each is read once, when it is whole.

    Args:
        file: It need not be there yet.
        read: What a line says, or None when that is of no interest.
    """

    def __init__(self, file: Path, read: Callable[[Line], Observation | None]) -> None:
        self._file = file
        self._read = read
        self._position = 0

    def news(self) -> Iterator[Observation]:
        """Yield what was added since the last look."""
        if not self._file.exists():
            return
        with self._file.open("rb") as lines:
            lines.seek(self._position)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                seen = self._read(json.loads(line)) if line.startswith(b"{") else None
                if seen is not None:
                    yield seen


def reported(line: Line) -> Observation | None:
    """Read a line that the demo's own code wrote: in Airflow's process, or in a node."""
    at = line["at"]
    if not isinstance(at, int | float):
        raise TypeError(f"{at!r} is not a time")
    return Observation(float(at), _fact(_REPORTED[str(line["what"])], line))


def worker_logged(line: Line) -> Observation | None:
    """Read a line of the worker's log."""
    cls = _LOGGED.get(str(line.get("event")))
    if cls is None:
        return None
    at = datetime.fromisoformat(str(line["timestamp"])).timestamp()
    return Observation(at, _fact(cls, line))


def _fact(cls: type, line: Line) -> Fact:
    # Fields that the fact does not have are passed by.
    fact: Fact = TypeAdapter(cls).validate_python(dict(line))
    return fact


class DemoTopics:
    """Reads events, results and letters from where they ended when this was made.

    Raises:
        KafkaUnavailableError: The broker did not say where they end.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._read = {
            settings.events_topic: _event,
            settings.results_topic: _result,
            settings.dlq_topic: _letter,
        }
        self._lost: list[str] = []
        tps = [
            KafkaTopicPartition(topic, partition, offset)
            for topic in self._read
            for partition, offset in _ends(settings, topic).items()
        ]
        self._consumer = make_consumer(reader_config(settings))
        self._consumer.assign(tps)

    def news(self) -> Iterator[Observation]:
        """Yield what has come since the last look.

        Raises:
            KafkaLostError: The topics can no longer be read.
        """
        for message in self._consumer.consume(_BATCH, 0):
            error = message.error()
            if error is not None:
                raise KafkaLostError(f"the demo can no longer read its topics: {error.str()}")
            record = record_of(message)
            fact = self._read[record.tp.topic](record)
            if fact is not None:
                yield Observation(_time_of(record), fact)

    def close(self) -> None:
        """End the reader."""
        self._consumer.close()


def _time_of(record: ConsumerRecord) -> float:
    """Return when it was written, unless a clock far from ours says so."""
    now = SYSTEM.now().timestamp()
    written = now if record.timestamp_ms is None else record.timestamp_ms / 1000
    return written if abs(now - written) < _CLOCKS_AGREE_S else now


def _ends(settings: KafkaSettings, topic: str) -> dict[int, int]:
    return end_offsets(settings.model_copy(update={"results_topic": topic}))


def _event(record: ConsumerRecord) -> Fact | None:
    event_id = readable_event_id(record.value)
    return None if event_id is None else EventStored(event_id, record)


def _result(record: ConsumerRecord) -> Fact:
    return ResultStored(WorkflowResultEvent.from_bytes(record.value))


def _letter(record: ConsumerRecord) -> Fact:
    if STATE_HEADERS[0] in record.headers:
        told = LetterState.model_validate_json(record.value or b"")
        return LetterMoved(told.event_id or "", told.dlq_id, told.state, told.actor)
    letter = DeadLetter.model_validate_json(record.value or b"")
    return LetterStored(readable_event_id(letter.source.value) or "", letter)
