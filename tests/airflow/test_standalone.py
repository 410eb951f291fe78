"""Airflow as it is deployed: scheduler, triggerer, API server; our provider, a real broker."""

from __future__ import annotations

import http
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.airflow.conftest import AirflowHome

from redrive.airflow.requests import event_id_of
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.expected import Expected
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.results import ResultReader
from redrive.testing.created_topics import Kafka, Topics
from redrive.testing.worker_process import WorkerProcess, wait_until

BOOT_S = 120.0
RUN_S = 90.0


@dataclass
class Task:
    """What names a task instance, for the id of its event."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None = -1
    try_number: int = 1


class Standalone:
    """`airflow standalone` in a session of its own, which ends with it."""

    def __init__(self, home: AirflowHome) -> None:
        ports = [free_port() for _ in range(3)]
        self.url = f"http://127.0.0.1:{ports[0]}"
        self._env = {
            **home.env,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(ports[0]),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports[1]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports[2]),
        }
        self._log = home.folder / "standalone.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._token: str | None = None

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["airflow", "standalone"],
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(
            self._healthy,
            timeout_s=BOOT_S,
            what=f"all of Airflow is healthy (see {self._log})",
            progress=self._log_size,
        )
        self._token = self.call("GET", "/auth/token")["access_token"]

    def _log_size(self) -> int:
        return self._log.stat().st_size

    def stop(self) -> None:
        # The parent leaves its children behind: end the whole session.
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        # Whether Airflow ends by itself is no promise of ours: it is given a minute.
        with suppress(TimeoutError):
            wait_until(
                lambda: not self._pids(), timeout_s=60, what="Airflow ends", progress=self._log_size
            )
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def freeze_triggerer(self) -> None:
        self._signal(signal.SIGSTOP, only="triggerer")

    def thaw_triggerer(self) -> None:
        self._signal(signal.SIGCONT, only="triggerer")

    def call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server on loopback
            self.url + path, data=data, headers=headers, method=method
        )
        answers: list[Any] = []

        def is_answered() -> bool:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
                    answers.append(json.loads(answer.read()))
            except urllib.error.HTTPError as error:
                # Its database is one file, which others have locked at times.
                if error.code != http.HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                return False
            return True

        wait_until(is_answered, timeout_s=60, what=f"{method} {path}", every_s=0.5)
        return answers[0]

    def start_run(self, dag_id: str) -> str:
        wait_until(
            lambda: self._knows(dag_id),
            timeout_s=RUN_S,
            what=f"DAG {dag_id} is known",
            progress=self._log_size,
        )
        run = self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})
        return str(run["dag_run_id"])

    def task(self, dag_id: str, run_id: str, task_id: str) -> Any:  # noqa: ANN401 - JSON
        return self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")

    def wait_for_state(self, dag_id: str, run_id: str, task_id: str, *states: str) -> None:
        wait_until(
            lambda: self._state(dag_id, run_id, task_id) in states,
            timeout_s=RUN_S,
            what=f"{dag_id}.{task_id} is {' or '.join(states)}",
            every_s=0.2,
        )

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:  # noqa: ANN401 - JSON
        task = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return self.call("GET", f"{task}/xcomEntries/return_value?deserialize=true")["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        task = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return json.dumps(self.call("GET", f"{task}/logs/{try_number}?full_content=true"))

    def _state(self, dag_id: str, run_id: str, task_id: str) -> str | None:
        try:
            return str(self.task(dag_id, run_id, task_id)["state"])
        except TimeoutError:
            return None  # on a busy machine the API server stands still for a while at first

    def _healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"airflow standalone ended: see {self._log}"
        try:
            health = self.call("GET", "/api/v2/monitor/health")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def _knows(self, dag_id: str) -> bool:
        try:
            self.call("GET", f"/api/v2/dags/{dag_id}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise
        return True

    def _pids(self, *, only: str = "") -> list[int]:
        assert self._process is not None
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except (OSError, ValueError):
                continue
            if session == self._process.pid and command and only in command:
                found.append(int(folder.name))
        return found

    def _signal(self, number: signal.Signals, *, only: str = "") -> None:
        for pid in self._pids(only=only):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def service(airflow: AirflowHome, worker: WorkerProcess) -> Iterator[Standalone]:
    del worker  # it must be there, no more
    service = Standalone(airflow)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def run_id(service: Standalone) -> str:
    return service.start_run("service")


def test_a_task_is_resumed_with_the_graphs_result(service: Standalone, run_id: str) -> None:
    service.wait_for_state("service", run_id, "succeeds", "success", "failed")

    assert service.task("service", run_id, "succeeds")["state"] == "success"
    result = service.result("service", run_id, "succeeds")
    assert result["answer"] == "THROUGH THE TRIGGERER"


def test_a_permanent_failure_fails_the_task_at_once_and_its_log_names_the_letter(
    service: Standalone, run_id: str
) -> None:
    service.wait_for_state("service", run_id, "fails_for_good", "failed", "up_for_retry")

    task = service.task("service", run_id, "fails_for_good")
    log = service.log("service", run_id, "fails_for_good", 1)
    assert (task["state"], task["try_number"], task["max_tries"]) == ("failed", 1, 2)
    assert "the model refuses this question" in log
    assert "redrive dlq show " in log


def test_a_quick_answer_reaches_the_task_in_its_slot(service: Standalone, run_id: str) -> None:
    service.wait_for_state("service", run_id, "answered_in_its_slot", "success", "failed")

    result = service.result("service", run_id, "answered_in_its_slot")
    log = service.log("service", run_id, "answered_in_its_slot", 1)
    assert result["answer"] == "AT ONCE"
    assert "DEFERRED" not in log


@pytest.mark.invariant("P2")
def test_a_result_that_arrives_before_the_trigger_starts_is_found(
    service: Standalone, kafka: Kafka, airflow_topics: Topics
) -> None:
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, results_topic=airflow_topics.results
    )
    offsets, reader = end_offsets(settings), ResultReader(settings)
    service.freeze_triggerer()
    run_id = service.start_run("early")
    event_id = event_id_of(Task("early", run_id, "answered_early"))
    reader.wait_in_thread(Expected(event_id), offsets, datetime.now(UTC) + timedelta(seconds=RUN_S))
    reader.close()
    service.wait_for_state("early", run_id, "answered_early", "deferred")

    service.thaw_triggerer()

    service.wait_for_state("early", run_id, "answered_early", "success", "failed")
    assert service.result("early", run_id, "answered_early")["answer"] == "EARLY"
