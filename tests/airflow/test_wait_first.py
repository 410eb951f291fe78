"""How long a task that nobody answers waits in its slot, and how that ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from tests.airflow.conftest import HERE, AirflowHome, events_on

from redrive.airflow.requests import event_id_of
from redrive.testing.topics import Kafka

WAIT_FIRST_S = 10.0
"""The operator's default."""


SECRET = "many characters, " * 3


@pytest.fixture(scope="module")
def waits(airflow: AirflowHome) -> Mapping[str, Any]:
    airflow.run("env", f"ID_SECRET={SECRET}", sys.executable, str(HERE / "unanswered.py"))
    waits: Mapping[str, Any] = json.loads((airflow.folder / "unanswered.json").read_text())
    return waits


def test_a_slow_run_defers_its_task_when_wait_first_is_over(waits: Mapping[str, Any]) -> None:
    wait = waits["for_a_second"]

    assert wait["ended"] == "deferred"
    assert 1 <= wait["after_s"] < WAIT_FIRST_S


def test_without_wait_first_a_task_defers_at_once(waits: Mapping[str, Any]) -> None:
    wait = waits["not_at_all"]

    assert wait["ended"] == "deferred"
    assert wait["after_s"] < waits["for_a_second"]["after_s"]


@pytest.mark.invariant("P8")
def test_a_task_never_waits_in_its_slot_past_its_deadline(waits: Mapping[str, Any]) -> None:
    wait = waits["to_the_deadline"]

    # Half a second, and the five in which the worker's own answer may still come.
    assert wait["ended"] == "deadline"
    assert 5.5 <= wait["after_s"] < WAIT_FIRST_S


def test_a_secret_that_is_set_while_tasks_wait_changes_the_ids_of_later_tasks_alone(
    waits: Mapping[str, Any], airflow: AirflowHome, kafka: Kafka
) -> None:
    before, after = waits["not_at_all"]["waits_for"], waits["with_a_secret"]["waits_for"]
    task = SimpleNamespace(
        dag_id="unanswered", run_id="by hand", task_id="not_at_all", map_index=-1, try_number=2
    )

    # Its trigger carries the id: who waits is found by it, whatever the secret is by then.
    assert before["event_id"] == event_id_of(task)
    assert after["event_id"] == event_id_of(task, SECRET.encode())
    assert (after["workflow_id"], after["workflow_run_id"]) == ("agent", "by hand")
    assert SECRET not in json.dumps(waits)
    sent = [event for event, _ in events_on(kafka, airflow.env["UNREAD_TOPIC"])]
    assert after["event_id"] in {event.event_id for event in sent}
