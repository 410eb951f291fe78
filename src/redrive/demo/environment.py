"""Where the demo plays: a broker, topics, a temporary folder, and the environments of processes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redrive.demo
from redrive.consumer.worker_settings import DeliveryGuarantee
from redrive.demo.airflow_process import REPORT_FILE
from redrive.demo.executions import EXECUTIONS_FILE
from redrive.demo.plan import REFUSED_TOPIC, WORKFLOW
from redrive.demo.processes import DemoProcess
from redrive.demo.refused_topics import REFUSED_TOPICS_FILE
from redrive.kafka.embedded import EmbeddedBroker
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_admin import create_topics
from redrive.settings_sources import KNOWN_NAMES

__all__ = ["DemoEnvironment", "broker", "demo_topics"]

_PARTITIONS = 4
# Of the user's environment, what would change how these processes behave. Above all the address
# of an Airflow database that is not the demo's.
_NOT_INHERITED = ("REDRIVE_", "AIRFLOW", "_AIRFLOW", "DEMO_")


@dataclass(frozen=True, slots=True)
class DemoEnvironment:
    """What the processes need to know.

    Args:
        kafka: The broker and the demo's topics.
        delivery: What the broker allows to promise.
        folder: A folder of the demo's own: databases, logs, checkpoints.
    """

    kafka: KafkaSettings
    delivery: DeliveryGuarantee
    folder: Path

    @property
    def worker_log(self) -> Path:
        """The worker's log, JSON lines."""
        return self.folder / "worker.log"

    @property
    def airflow_log(self) -> Path:
        """Everything that Airflow has to say."""
        return self.folder / "airflow.log"

    @property
    def executions(self) -> Path:
        """One line per node execution."""
        return self.folder / "executions.jsonl"

    @property
    def airflow_report(self) -> Path:
        """What happened in Airflow's process, JSON lines."""
        return self.folder / "airflow.jsonl"

    @property
    def refused_topics(self) -> Path:
        """The reviewer's policy."""
        return self.folder / "refused-topics.txt"

    @property
    def command_log(self) -> Path:
        """What the user's command printed."""
        return self.folder / "command.log"

    def start_worker(self) -> DemoProcess:
        """Start `redrive worker` with the demo's graph, whose reviewer refuses a topic."""
        self.refused_topics.write_text(f"{REFUSED_TOPIC}\n", encoding="utf-8")
        env = {
            **_inherited(),
            **self._settings(),
            # Retries that one can watch, the same each time.
            "REDRIVE_RETRY__INITIAL_DELAY": "500ms",
            "REDRIVE_RETRY__JITTER": "false",
            EXECUTIONS_FILE: str(self.executions),
            REFUSED_TOPICS_FILE: str(self.refused_topics),
        }
        arguments = ("--graph", f"{WORKFLOW}=redrive.demo.graph:graph")
        delivery = ("--delivery", self.delivery.value, "--log-format", "json")
        # Without a parent of its own: it is the demo that watches and ends it.
        worker = ("-m", "redrive", "worker", "--processes", "0")
        return DemoProcess(*worker, *arguments, *delivery, env=env, log=self.worker_log)

    def start_command(self, arguments: Sequence[str]) -> DemoProcess:
        """Start `redrive` with these arguments, as a user would from a shell of its own."""
        env = {**_inherited(), **self._settings()}
        return DemoProcess("-m", "redrive", *arguments, env=env, log=self.command_log)

    def start_airflow(self) -> DemoProcess:
        """Start Airflow's process, with a home and a database of its own."""
        home = self.folder / "airflow"
        dags = home / "dags"
        dags.mkdir(parents=True)
        shutil.copy(Path(redrive.demo.__path__[0]) / "dag.py", dags / "redrive_demo.py")
        extra = {"bootstrap.servers": self.kafka.bootstrap_servers, **self.kafka.config}
        env = {
            **_inherited(),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps({"conn_type": "kafka", "extra": extra}),
            "KAFKA_WORKFLOW_EVENTS_TOPIC": self.kafka.events_topic,
            "KAFKA_WORKFLOW_RESULTS_TOPIC": self.kafka.results_topic,
            REPORT_FILE: str(self.airflow_report),
        }
        return DemoProcess("-m", "redrive.demo.airflow_process", env=env, log=self.airflow_log)

    def _settings(self) -> Mapping[str, str]:
        kafka = self.kafka.model_dump(mode="json", exclude_none=True)
        return {f"REDRIVE_KAFKA__{name.upper()}": _text(kafka[name]) for name in kafka}


@contextmanager
def broker(given: KafkaSettings | None) -> Iterator[tuple[KafkaSettings, DeliveryGuarantee]]:
    """Give a broker with the demo's topics: the one that is `given`, or the wheel's own.

    Raises:
        KafkaUnavailableError: It does not answer.
        SettingsError: It refuses a topic.
    """
    if given is not None:
        kafka = demo_topics(given)
        create_topics(kafka, partitions=_PARTITIONS)
        yield kafka, DeliveryGuarantee.EXACTLY_ONCE
        return
    kafka = demo_topics(KafkaSettings())
    with EmbeddedBroker(kafka) as embedded:
        yield embedded.settings(kafka), DeliveryGuarantee.AT_LEAST_ONCE


def demo_topics(kafka: KafkaSettings) -> KafkaSettings:
    """Return the settings with topics and a group for the demo alone.

    On a broker of yours, its worker must not take in events that are not the demo's.
    """
    return kafka.model_copy(
        update={
            "events_topic": "redrive-demo-events",
            "results_topic": "redrive-demo-results",
            "retry_topic": "redrive-demo-events-retry",
            "dlq_topic": "redrive-demo-events-dlq",
            "group_id": "redrive-demo",
        }
    )


def _inherited() -> Mapping[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_NOT_INHERITED) and name not in KNOWN_NAMES
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
