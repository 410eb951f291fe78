"""One DAG with every ending, run whole by `dag.test()` on a real broker."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.airflow.conftest import HERE, AirflowHome, events_on

from redrive.dead_letter.record import DeadLetter
from redrive.events import EventHeaders, WorkflowEvent
from redrive.testing.created_topics import Kafka, Topics
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import WorkerProcess

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """How the DAG's tasks ended, and what was sent; times are epoch milliseconds."""

    fire_after: int
    resumed_at: int

    states: Facts
    results: Facts
    failures: Mapping[str, Facts]
    sent: list[tuple[WorkflowEvent, EventHeaders]]

    def events_of(self, task_id: str) -> list[WorkflowEvent]:
        return [event for event, _ in self.sent if event.metadata["task_id"] == task_id]


@pytest.fixture(scope="module")
def run(airflow: AirflowHome, worker: WorkerProcess, kafka: Kafka, airflow_topics: Topics) -> Run:
    del worker  # it must be there, no more
    airflow.run(sys.executable, str(HERE / "dags" / "agents_dag.py"))
    folder = airflow.folder
    failures = {
        file.name.removesuffix(".failed.json"): json.loads(file.read_text())
        for file in folder.glob("*.failed.json")
    }
    return Run(
        fire_after=int((folder / "fire_after").read_text()),
        resumed_at=int((folder / "resumed_at").read_text()),
        states=json.loads((folder / "states.json").read_text()),
        results=json.loads((folder / "results.json").read_text()),
        failures=failures,
        sent=events_on(kafka, airflow_topics.events),
    )


def test_a_task_returns_the_graphs_result(run: Run) -> None:
    assert run.states["succeeds[-1]"] == "success"
    assert run.results["succeeds"] == {
        "do": "answer",
        "text": "from agents",
        "answer": "FROM AGENTS",
    }


def test_a_task_can_wait_in_its_own_slot(run: Run) -> None:
    assert run.results["waits_inline"]["answer"] == "INLINE"


def test_a_task_sets_thread_metadata_headers_and_config_by_templates(
    run: Run, kafka: Kafka, airflow_topics: Topics
) -> None:
    ((event, headers),) = [(e, h) for e, h in run.sent if e.metadata["task_id"] == "waits_inline"]
    records = read_topic(kafka.bootstrap_servers, airflow_topics.events)

    (record,) = [record for record in records if record.key == b"of-agents"]
    assert headers.thread == "of-agents"
    assert ("x-dag", b"agents") in record.headers
    assert event.metadata["langgraph"] == {"tags": ["of agents"]}
    assert event.payload.model_extra == {"config": {"user_id": "agents"}}


def test_an_answer_that_comes_before_the_wait_is_found(run: Run) -> None:
    assert run.results["answered_early"]["answer"] == "EARLY"


def test_a_task_that_deferred_is_not_resumed_before_airflow_knows_of_it(run: Run) -> None:
    ((event, _),) = [(e, h) for e, h in run.sent if e.metadata["task_id"] == "answered_early"]

    # The answer was there before the deferral; ten seconds are how late the news of it may come.
    assert run.fire_after >= (event.timestamp.timestamp() + 10) * 1000
    assert run.resumed_at >= run.fire_after


def test_the_taskflow_function_takes_what_another_task_returned(run: Run) -> None:
    assert run.results["taskflow"]["answer"] == "OF A TASK BEFORE"


def test_without_a_workflow_id_the_dags_id_names_the_graph(run: Run) -> None:
    events = run.events_of("trigger_langgraph_workflow__1")

    assert [event.workflow_id for event in events] == ["agents"]
    assert run.results["by_dag_id"]["answer"] == "BY DAG"


def test_what_a_decorated_function_returns_is_data_and_no_template(run: Run) -> None:
    assert run.results["decorated"]["answer"] == "AS IT IS {{ RUN_ID }}"


def test_mapped_tasks_get_their_own_answers(run: Run) -> None:
    ids = {event.event_id for event in run.events_of("mapped")}

    assert [result["answer"] for result in run.results["mapped"]] == ["A", "B"]
    assert len(ids) == 2


def test_a_permanent_failure_fails_the_task_without_further_tries(run: Run) -> None:
    failure = run.failures["fails_for_good"]

    assert run.states["fails_for_good[-1]"] == "failed"
    assert len(run.events_of("fails_for_good")) == 1
    assert failure["class"] == "FinalLangGraphRunError"
    assert (failure["kind"], failure["reason"]) == ("permanent", "permanent")
    assert (failure["node"], failure["attempts"]) == ("think", 1)


def test_the_error_names_the_letter_that_lies_on_its_topic(
    run: Run, kafka: Kafka, airflow_topics: Topics
) -> None:
    failure = run.failures["fails_for_good"]
    records = read_topic(kafka.bootstrap_servers, airflow_topics.dlq)
    letters = [DeadLetter.model_validate_json(record.value or b"") for record in records]

    (letter,) = [letter for letter in letters if letter.dlq_id == failure["dlq_id"]]
    assert letter.source.key == failure["event_id"].encode()
    assert f"redrive dlq show {failure['dlq_id']}" in failure["text"]
    assert "the model refuses this question" in failure["text"]


@pytest.mark.invariant("P8")
def test_a_task_fails_at_its_timeout_and_its_node_knew_how_long_it_had(
    run: Run, worker: WorkerProcess
) -> None:
    failure = run.failures["lingers"]
    (event,) = run.events_of("lingers")

    waited_s = failure["at"] - event.timestamp.timestamp()
    remaining_s = float((worker.log_file.parent / "remaining_s").read_text())
    assert (failure["kind"], failure["reason"], failure["node"]) == ("timeout", "deadline", "think")
    assert 15 < remaining_s <= 20
    assert 20 <= waited_s < 30


def test_an_exhausted_run_is_tried_again_when_the_task_has_retries(run: Run) -> None:
    events = run.events_of("is_exhausted")

    assert run.failures["is_exhausted"]["reason"] == "retries_exhausted"
    assert [event.metadata["try_number"] for event in events] == [1, 2]


def test_each_try_of_a_task_sends_the_same_event_id(run: Run) -> None:
    assert len({event.event_id for event in run.events_of("is_exhausted")}) == 1


def test_without_retries_of_its_own_a_task_is_tried_once(run: Run) -> None:
    assert run.failures["has_no_retries"]["reason"] == "retries_exhausted"
    assert len(run.events_of("has_no_retries")) == 1


@pytest.mark.invariant("P8")
def test_a_task_without_an_answer_fails_at_its_deadline(run: Run) -> None:
    failure = run.failures["gets_no_answer"]

    assert run.states["gets_no_answer[-1]"] == "failed"
    assert (failure["kind"], failure["reason"]) == ("timeout", "deadline")


@pytest.mark.invariant("P8")
def test_the_deadline_travels_with_the_event(run: Run) -> None:
    ((event, headers),) = [(e, h) for e, h in run.sent if e.metadata["task_id"] == "succeeds"]

    assert headers.deadline is not None
    deadline = datetime.fromtimestamp(headers.deadline / 1000, UTC)
    assert abs(deadline - event.timestamp - timedelta(seconds=60)) < timedelta(seconds=1)


def test_the_event_says_which_task_sent_it(run: Run) -> None:
    (event,) = run.events_of("succeeds")

    assert event.source == "airflow"
    assert event.workflow_run_id.startswith("manual__")
    assert event.metadata["dag_id"] == "agents"
    assert event.metadata["map_index"] == -1
