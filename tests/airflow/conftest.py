"""Airflow with a home of its own, always in processes of its own, and a worker to answer it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from redrive.dead_letter.record import dlq_id
from redrive.errors import RedriveError
from redrive.events import (
    ErrorInfo,
    EventHeaders,
    ResultStatus,
    WorkflowEvent,
    WorkflowResultEvent,
)
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.options import KafkaSettings
from redrive.retry.kinds import Kind, Reason
from redrive.testing.stage import Stage
from redrive.testing.topics import Kafka, Topics, create_topics, delete_topics
from redrive.testing.worker import WorkerProcess

HERE = Path(__file__).parent

Agent = Callable[[dict[str, object]], object]


@dataclass(frozen=True)
class AirflowHome:
    """Where Airflow lives, and the environment in which its processes run."""

    folder: Path
    env: Mapping[str, str]

    def run(self, *command: str, timeout: float = 120) -> str:
        log = self.folder / "commands.log"
        with log.open("a") as errors:
            done = subprocess.run(
                command,
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=timeout,
                check=False,
            )
            errors.write(done.stdout)
        assert done.returncode == 0, f"{command} ended with {done.returncode}: see {log}"
        return done.stdout


@pytest.fixture(scope="session")
def bare_airflow(tmp_path_factory: pytest.TempPathFactory) -> AirflowHome:
    if importlib.util.find_spec("airflow") is None:
        if os.environ.get("CI"):
            pytest.fail("Airflow is not installed: install redrive[airflow]", pytrace=False)
        pytest.skip("Airflow is not installed: install redrive[airflow]")
    folder = tmp_path_factory.mktemp("airflow")
    ours = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL")
    env = {name: os.environ[name] for name in ours if name in os.environ}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PYTHONUNBUFFERED": "1",
    }
    return AirflowHome(folder, env)


@pytest.fixture(scope="session")
def airflow_topics(kafka: Kafka) -> Iterator[Topics]:
    topics = create_topics(kafka.bootstrap_servers)
    yield topics
    delete_topics(kafka.bootstrap_servers, topics.names)


@pytest.fixture(scope="session")
def airflow(
    bare_airflow: AirflowHome, kafka: Kafka, airflow_topics: Topics
) -> Iterator[AirflowHome]:
    unread = create_topics(kafka.bootstrap_servers, partitions=1)
    # What concerns groups and producers is there to be left out: others use the connection too.
    extra = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "group.id": "of-somebody",
        "auto.offset.reset": "latest",
        "enable.auto.commit": True,
        "socket.timeout.ms": 20000,
    }
    env = {
        **bare_airflow.env,
        "AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps({"conn_type": "kafka", "extra": extra}),
        "KAFKA_WORKFLOW_EVENTS_TOPIC": airflow_topics.events,
        "KAFKA_WORKFLOW_RESULTS_TOPIC": airflow_topics.results,
        "REPORT_FOLDER": str(bare_airflow.folder),
        "UNREAD_TOPIC": unread.events,
    }
    home = AirflowHome(bare_airflow.folder, env)
    home.run("airflow", "db", "migrate")
    yield home
    delete_topics(kafka.bootstrap_servers, unread.names)


def events_on(kafka: Kafka, topic: str) -> list[tuple[WorkflowEvent, EventHeaders]]:
    """Read what was sent to a topic so far."""
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, results_topic=topic)
    ends = end_offsets(settings)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "of-a-test"})
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in ends])
    found: list[tuple[WorkflowEvent, EventHeaders]] = []
    while len(found) < sum(ends.values()):
        message = consumer.poll(10)
        assert message is not None, f"only {len(found)} of {sum(ends.values())} events can be read"
        if message.error() is None:
            found.append(read_event(message))
    consumer.close()
    return found


def read_event(message: Message) -> tuple[WorkflowEvent, EventHeaders]:
    value, headers = message.value(), message.headers()
    event = WorkflowEvent.from_bytes(value if isinstance(value, bytes) else None)
    pairs = headers if isinstance(headers, list) else []
    raw = [(name, text) for name, text in pairs if isinstance(text, bytes)]
    return event, EventHeaders.read(raw)


class StandInWorker:
    """Stands in for a redrive worker: runs the graph once per event, and answers.

    No retries, no transactions, no letters; an error's answer carries the id that the letter
    would have.
    """

    def __init__(self, kafka: Kafka, topics: Topics, agent: Agent) -> None:
        self._agent = agent
        self._topics = topics
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0})
        self._consumer = Consumer(
            {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topics.group}
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        known = self._consumer.list_topics(timeout=10).topics[self._topics.events].partitions
        self._consumer.assign(
            [TopicPartition(self._topics.events, p, OFFSET_BEGINNING) for p in known]
        )
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        event, _ = read_event(message)
        result = run_once(self._agent, event, message)
        self._producer.produce(self._topics.results, result.to_bytes(), event.event_id.encode())
        self._producer.flush(10)


def run_once(agent: Agent, event: WorkflowEvent, message: Message) -> WorkflowResultEvent:
    said, status, info = None, ResultStatus.SUCCESS, None
    try:
        said = agent(event.payload.data)
    except RedriveError as error:
        status, info = ResultStatus.ERROR, error_info(error, message)
    return WorkflowResultEvent(
        correlation_id=event.event_id,
        workflow_id=event.workflow_id,
        workflow_run_id=event.workflow_run_id,
        result=said,
        status=status,
        timestamp=datetime.now(UTC),
        error=info.message if info else None,
        error_info=info,
    )


def error_info(error: RedriveError, message: Message) -> ErrorInfo:
    kind = Kind(getattr(error, "__redrive_kind__", "unknown"))
    exhausted = kind is not Kind.PERMANENT
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return ErrorInfo(
        kind=kind,
        type=type(error).__name__,
        message=str(error),
        reason=Reason.RETRIES_EXHAUSTED if exhausted else Reason.PERMANENT,
        node="think",
        attempts=4 if exhausted else 1,
        exhausted=exhausted,
        dlq_id=dlq_id(message.topic() or "", partition, offset, count=0),
    )


def load_agent() -> Agent:
    """Import `agents.py`, as a worker would that has this folder on its path."""
    spec = importlib.util.spec_from_file_location("agents", HERE / "agents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["agents"] = module
    spec.loader.exec_module(module)
    run: Agent = module.agent.compile().invoke
    return run


@pytest.fixture(scope="session")
def worker(
    kafka: Kafka, airflow_topics: Topics, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("worker")
    shutil.copy(HERE / "agents.py", folder)
    settings = {"REDRIVE_RETRY__INITIAL_DELAY": "100ms"}
    stage = Stage(kafka.bootstrap_servers, airflow_topics, folder, settings)
    # The second one has a DAG's id: that is what a task asks for that names no workflow.
    graphs = ("--graph", "agent=agents:agent", "--graph", "agents=agents:agent")
    with stage.worker(*graphs).running() as worker:
        yield worker
