"""What the kit finds in a graph's journal, and in how events of a known fate ended."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from redrive.events import ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.testing.journal import (
    Execution,
    left_out,
    read_journal,
    tried_too_often,
    went_back,
)
from redrive.testing.judging import Evidence
from redrive.testing.kafka_env import event
from redrive.testing.load import wrong_endings

ORDER = ("plan", "work")


def test_a_journal_is_read_line_by_line_and_may_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "executions.log").write_text("t1 plan\nt2 plan\n")

    assert read_journal(tmp_path / "executions.log") == [("t1", "plan"), ("t2", "plan")]
    assert read_journal(tmp_path / "nothing") == []


@pytest.mark.invariant("P4")
def test_only_a_node_that_was_done_is_an_execution_too_many() -> None:
    again = [Execution("t1", node) for node in ("plan", "plan", "work", "work")]
    back = [Execution("t2", node) for node in ("plan", "work", "plan")]

    (finding,) = went_back([*again, *back], ORDER)

    assert "t2 went back" in finding


@pytest.mark.invariant("P16")
def test_a_success_without_one_of_its_nodes_is_found() -> None:
    whole = [Execution("e1/0/0", node) for node in ORDER]
    executed = [*whole, Execution("e2/0/0", "plan"), Execution("e3/1/0", "plan")]

    (finding,) = left_out(executed, {"e1", "e2"}, ORDER)

    assert "e2" in finding
    assert finding.endswith("never ran: work")


@pytest.mark.invariant("P5")
def test_what_was_tried_too_often_is_counted_by_thread_and_node() -> None:
    tried = [Execution(thread, "work") for thread in ("t1", "t2", "t2")]

    assert tried_too_often(tried, {"work": 2}) == []
    (finding,) = tried_too_often(tried, {"work": 1})
    assert "t2" in finding
    assert tried_too_often(tried, {"plan": 0}) == []


def test_who_could_succeed_and_is_given_up_is_found() -> None:
    asked = {fate: event({"fate": fate}) for fate in ("success", "permanent", "of its own")}
    right = [_result(asked["success"], "success"), _result(asked["permanent"], "error")]
    wrong = [_result(asked["success"], "error"), _result(asked["permanent"], "success")]
    unknown = [_result(asked["of its own"], status) for status in ("success", "error")]

    assert wrong_endings(_evidence([*asked.values()], [*right, *unknown])) == []
    found = wrong_endings(_evidence([*asked.values()], wrong))
    assert [finding.split(" of fate ")[1].split(",")[0] for finding in found] == [
        "'success' ended as error",
        "'permanent' ended as success",
    ]


def _result(asked: WorkflowEvent, status: str) -> WorkflowResultEvent:
    return WorkflowResultEvent(
        correlation_id=asked.event_id,
        workflow_id="fates",
        workflow_run_id="run",
        status=ResultStatus(status),
        timestamp=datetime.now(UTC),
    )


def _evidence(asked: list[WorkflowEvent], results: list[WorkflowResultEvent]) -> Evidence:
    return Evidence(
        events=[*(_record(each.to_bytes()) for each in asked), _record(b"{not JSON")],
        results=[_record(each.to_bytes()) for each in results],
        letters=[],
        committed={},
        ends={},
    )


def _record(value: bytes) -> ConsumerRecord:
    return ConsumerRecord(TopicPartition("topic", 0), 0, None, value, (), None)
