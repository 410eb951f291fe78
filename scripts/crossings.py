"""Count the functions and files of redrive that one event, one redrive, one Airflow task cross.

The real thing runs in this process on a real broker, and the interpreter's profiling hook notes
each call, on every thread. What runs on the other side of Kafka is left out: records are made and
read by bare clients here. `scripts.shape` prints what is counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict

import structlog
from confluent_kafka import Consumer, Message, Producer
from langgraph.graph import END, START, StateGraph
from scripts.call_recorder import CallRecorder, Crossed

import redrive
from redrive import LangGraphKafkaConsumer, PermanentError, load_settings
from redrive.cli.app import app
from redrive.testing import LocalBroker, Topics, create_topics

__all__ = ["crossings"]

SOURCE = Path(redrive.__file__).parent
_EVENTS = 20
"""So many are measured, one after the other; before them as many that warm everything up."""
_WITHIN_S = 60.0


def crossings() -> Iterator[str]:
    """Measure all three, one line each."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    with _broker() as servers, tempfile.TemporaryDirectory() as folder:
        place = _Place(servers, create_topics(servers, partitions=1), Path(folder))
        yield f"an event crosses {asyncio.run(_event(place))}"
        yield f"a redrive crosses {_redrive(place)}, without those that `config show` calls"
        yield f"an Airflow task crosses {_airflow_task(place)}"


@contextmanager
def _broker() -> Iterator[str]:
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield named
        return
    with LocalBroker() as broker:
        yield broker.bootstrap_servers


class _State(TypedDict, total=False):
    fail: bool


async def _node(state: _State) -> _State:
    if state.get("fail"):
        raise PermanentError("as it was asked to")
    return {}


def _graph() -> StateGraph[_State, None, _State, _State]:
    graph = StateGraph(_State)
    graph.add_node("node", _node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    return graph


class _Place:
    """Topics, and bare clients that send events and read results."""

    def __init__(self, servers: str, topics: Topics, folder: Path) -> None:
        self.topics = topics
        self.settings = {
            "kafka.bootstrap_servers": servers,
            "kafka.events_topic": topics.events,
            "kafka.results_topic": topics.results,
            "kafka.retry_topic": topics.retry,
            "kafka.dlq_topic": topics.dlq,
            "kafka.group_id": topics.group,
            "checkpoints.url": f"sqlite:///{folder}/checkpoints.db",
        }
        self.servers = servers
        self.folder = folder
        self._producer = Producer({"bootstrap.servers": servers})
        self._results = self.reader(topics.results)

    def reader(self, topic: str) -> Consumer:
        reader = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": uuid.uuid4().hex,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
            }
        )
        reader.subscribe([topic])
        return reader

    def store(self, topic: str, key: str, value: Mapping[str, object]) -> None:
        self._producer.produce(topic, json.dumps(value), key)
        if self._producer.flush(_WITHIN_S):
            raise TimeoutError(f"a record for {topic} was not stored within {_WITHIN_S:g} s")

    def run(self, data: Mapping[str, object]) -> None:
        """Send one event and return once its result is there."""
        event_id = str(uuid.uuid4())
        self.store(self.topics.events, event_id, _event_of(event_id, data))
        next_record(self._results)


def _event_of(event_id: str, data: Mapping[str, object]) -> dict[str, object]:
    return {
        "event_id": event_id,
        "event_type": "workflow.triggered",
        "timestamp": "2026-01-01T00:00:00Z",
        "source": "shape",
        "workflow_id": "shape",
        "workflow_run_id": "shape",
        "payload": {"data": data},
    }


def next_record(reader: Consumer) -> Message:
    """Return the next record of a topic."""
    until = time.monotonic() + _WITHIN_S
    while time.monotonic() < until:
        message = reader.poll(0.1)
        if message is not None and message.error() is None:
            return message
    raise TimeoutError(f"no record within {_WITHIN_S:g} s")


async def _event(place: _Place) -> Crossed:
    """Count what is called about once more for each event than in the same time without any."""
    recorder = CallRecorder(SOURCE, without=("testing",))
    with recorder.watching():
        settings = load_settings(overrides=place.settings)
        async with LangGraphKafkaConsumer(settings, {"*": _graph()}):
            await asyncio.to_thread(_some_events, place)
            began = time.monotonic()
            recorder.is_on = True
            await asyncio.to_thread(_some_events, place)
            recorder.is_on = False
            took_s = time.monotonic() - began
            busy = recorder.take()
            recorder.is_on = True
            await asyncio.sleep(took_s)
            recorder.is_on = False
            idle = recorder.take().counts()
            counted = busy.counts()
            for _ in range(2):  # letters for the redrives
                await asyncio.to_thread(place.run, {"fail": True})
    more = {code for code, times in counted.items() if times - idle[code] >= _EVENTS / 2}
    return busy.crossed(more.__contains__, times=_EVENTS)


def _some_events(place: _Place) -> None:
    # Not by the recorder: this thread is new, and would be watched.
    sys.setprofile(None)
    for _ in range(_EVENTS):
        place.run({})


def _redrive(place: _Place) -> Crossed:
    """Count what the second of two commands calls, beside what every command needs to start."""
    letters = _letter_ids(place)
    recorder = CallRecorder(SOURCE, without=("testing",))
    with _environ(place):
        _command("config", "show")
        _command("dlq", "redrive", letters[0], "--yes", "--no-wait")
        recorder.is_on = True
        with recorder.watching():
            _command("config", "show")
        start = recorder.take().counts()
        with recorder.watching():
            _command("dlq", "redrive", letters[1], "--yes", "--no-wait")
    return recorder.crossed(lambda code: code not in start)


def _letter_ids(place: _Place) -> list[str]:
    reader = place.reader(place.topics.dlq)
    letters = [json.loads(next_record(reader).value() or b"{}") for _ in range(2)]
    reader.close()
    return [str(letter["dlq_id"]) for letter in letters]


@contextmanager
def _environ(place: _Place) -> Iterator[None]:
    given = {f"REDRIVE_{k.upper().replace('.', '__')}": v for k, v in place.settings.items()}
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _command(*words: str) -> None:
    with redirect_stdout(StringIO()):
        app(list(words), standalone_mode=False, prog_name="redrive")


def _airflow_task(place: _Place) -> Crossed:
    """Count what the second of two tasks calls that are answered while they wait in their slots."""
    os.environ["AIRFLOW_HOME"] = str(place.folder)
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"
    extra = {"bootstrap.servers": place.servers}
    os.environ["AIRFLOW_CONN_KAFKA_DEFAULT"] = json.dumps({"conn_type": "kafka", "extra": extra})
    from redrive.airflow import LangGraphOperator  # noqa: PLC0415 - Airflow reads its home at once

    topics = create_topics(place.servers, partitions=1)
    recorder = CallRecorder(SOURCE, without=("testing",))
    for number in range(2):
        answering = threading.Thread(target=_answer, args=(place, topics), daemon=True)
        answering.start()
        operator: Any = LangGraphOperator(
            task_id=f"shape_{number}",
            workflow_id="shape",
            data={},
            events_topic=topics.events,
            results_topic=topics.results,
            deferrable=False,
        )
        task = SimpleNamespace(
            dag_id="shape", run_id="shape", task_id=operator.task_id, map_index=-1, try_number=1
        )
        recorder.take()
        recorder.is_on = True
        with recorder.watching():
            operator.execute({"ti": task})
        recorder.is_on = False
        answering.join()
    return recorder.crossed()


def _answer(place: _Place, topics: Topics) -> None:
    """Answer the newest event as a worker would."""
    reader = place.reader(topics.events)
    message = next_record(reader)
    while (later := reader.poll(1.0)) is not None:
        message = later
    reader.close()
    event = json.loads(message.value() or b"{}")
    answers = {"topic": topics.events, "partition": message.partition(), "offset": message.offset()}
    result = {
        "correlation_id": event["event_id"],
        "workflow_id": event["workflow_id"],
        "workflow_run_id": event["workflow_run_id"],
        "result": {},
        "status": "success",
        "timestamp": event["timestamp"],
        "answers": answers,
    }
    place.store(topics.results, event["event_id"], result)
