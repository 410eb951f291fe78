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
from redrive.airflow.run_answers import heard
from redrive.clock import SYSTEM
from redrive.codec import AesGcm
from redrive.events import ResultStatus, WorkflowResultEvent, readable_event_id
from redrive.kafka.signed import judged
from redrive.payloads import Payloads
from redrive.sealed_records import opened_event, seal_of_event, sealed_result
from redrive.signatures import Signed, Subject, Unsigned, Verifier
from redrive.testing.created_topics import Kafka
from redrive.testing.reading import read_topic

WAIT_FIRST_S = 10.0
"""The operator's default."""


SECRET = "many characters, " * 3
KEY = bytes(range(32))
CODEC = {
    "REDRIVE_SECURITY__CODEC": "redrive.codec:AesGcm",
    "REDRIVE_SECURITY__ENCRYPTION_KEYS": json.dumps({"2026": KEY.hex()}),
    "REDRIVE_SECURITY__SIGNING_KEYS__AIRFLOW": "s" * 32,
}
PAYLOADS = Payloads(AesGcm({"2026": KEY}))


def an_answer() -> dict[str, object]:
    """Return what a trigger hands on of an encrypted result."""
    result = WorkflowResultEvent(
        correlation_id="e",
        workflow_id="agent",
        workflow_run_id="by hand",
        result={"name": "Mustermann"},
        status=ResultStatus.SUCCESS,
        timestamp=SYSTEM.now(),
    )
    return heard(sealed_result(result, PAYLOADS))


@pytest.fixture(scope="module")
def waits(airflow: AirflowHome) -> Mapping[str, Any]:
    given = {"ID_SECRET": SECRET, "CODEC": json.dumps(CODEC), "ANSWER": json.dumps(an_answer())}
    variables = [f"{name}={value}" for name, value in given.items()]
    airflow.run("env", *variables, sys.executable, str(HERE / "unanswered.py"))
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


@pytest.mark.invariant("P15")
def test_a_task_encrypts_its_event_and_decodes_its_answer_by_the_variables_of_its_host(
    waits: Mapping[str, Any], airflow: AirflowHome, kafka: Kafka
) -> None:
    event_id = waits["encrypted"]["waits_for"]["event_id"]
    sent = [event for event, _ in events_on(kafka, airflow.env["UNREAD_TOPIC"])]
    (encrypted,) = [event for event in sent if event.event_id == event_id]

    assert [event.event_id for event in sent if seal_of_event(event)] == [event_id]
    assert opened_event(encrypted, PAYLOADS).payload.data == {"task": "encrypted"}
    # What finds the task stays to be read.
    assert encrypted.metadata["dag_id"] == "unanswered"
    assert "Mustermann" not in json.dumps(an_answer())
    assert waits["encrypted"]["result"] == {"name": "Mustermann"}
    assert KEY.hex() not in json.dumps(waits["encrypted"]["waits_for"])


@pytest.mark.invariant("P15")
def test_a_task_signs_its_event_as_it_lies_there_by_the_variables_of_its_host(
    waits: Mapping[str, Any], airflow: AirflowHome, kafka: Kafka
) -> None:
    sent = read_topic(kafka.bootstrap_servers, airflow.env["UNREAD_TOPIC"])
    verifier = Verifier({"airflow": b"s" * 32})
    found = {
        str(readable_event_id(one.value)): judged(one, Subject.EVENT, verifier) for one in sent
    }

    assert found[waits["encrypted"]["waits_for"]["event_id"]] == Signed("airflow")
    assert found[waits["not_at_all"]["waits_for"]["event_id"]] == Unsigned()
    assert "s" * 32 not in json.dumps(waits)
