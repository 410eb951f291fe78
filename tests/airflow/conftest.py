"""Airflow with a home of its own, always in processes of its own, and a worker to answer it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from redrive.events import EventHeaders, WorkflowEvent
from redrive.testing.created_topics import Kafka, Topics, create_topics, delete_topics
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import WorkerProcess

HERE = Path(__file__).parent


@dataclass(frozen=True)
class AirflowHome:
    """Where Airflow lives, and the environment in which its processes run."""

    folder: Path
    env: Mapping[str, str]

    def run(self, *command: str, timeout: float = 500) -> str:
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
    ours = ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LC_ALL")
    env = {name: os.environ[name] for name in ours if name in os.environ}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        # 5 s by default: on a busy machine the API server takes longer, and tasks fail for that.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
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
    return [
        (WorkflowEvent.from_bytes(record.value), EventHeaders.read(record.headers))
        for record in read_topic(kafka.bootstrap_servers, topic)
    ]


@pytest.fixture(scope="session")
def worker(
    kafka: Kafka, airflow_topics: Topics, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("worker")
    shutil.copy(HERE / "agents.py", folder)
    settings = {"REDRIVE_RETRY__INITIAL_DELAY": "100ms"}
    env = KafkaEnv(kafka.bootstrap_servers, airflow_topics, folder, settings)
    # The second one has a DAG's id: that is what a task asks for that names no workflow.
    graphs = ("--graph", "agent=agents:agent", "--graph", "agents=agents:agent")
    with env.worker(*graphs).running() as worker:
        yield worker
