"""The one judge of whose answer a result is: waiters of Airflow, of the command, of redrives."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.events import EventPlace, ResultStatus, RunInfo, WorkflowResultEvent
from redrive.kafka.expected import Expected
from redrive.kafka.publish import Published

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = Published("events", 3, 17)
EXPECTED = Expected("e", "w", "r", record=PLACE, redrive_count=2)


def result(**other: object) -> WorkflowResultEvent:
    """Return the answer that is expected, but for what is `other` of it."""
    run = RunInfo(
        attempts=1, started_at=NOW, finished_at=NOW, resumed=False, redrive_count=2, worker="w1"
    )
    said = {
        "correlation_id": "e",
        "workflow_id": "w",
        "workflow_run_id": "r",
        "status": ResultStatus.SUCCESS,
        "timestamp": NOW,
        "run": run,
        "answers": EventPlace(topic="events", partition=3, offset=17),
    }
    return WorkflowResultEvent.model_validate(said | other)


OF_ANOTHER: list[tuple[dict[str, object], str]] = [
    ({"correlation_id": "x"}, "correlation_id is 'x', not 'e'"),
    ({"correlation_id": ""}, "correlation_id is '', not 'e'"),
    ({"workflow_id": "x"}, "workflow_id is 'x', not 'w'"),
    ({"workflow_id": ""}, "workflow_id is '', not 'w'"),
    ({"workflow_run_id": "x"}, "workflow_run_id is 'x', not 'r'"),
    (
        {"answers": {"topic": "others", "partition": 3, "offset": 17}},
        "the record it answers is others/3@17, not events/3@17",
    ),
    ({"answers": {"topic": "events", "partition": 4, "offset": 17}}, "is events/4@17, not"),
    ({"answers": {"topic": "events", "partition": 3, "offset": 18}}, "is events/3@18, not"),
    (
        {
            "run": {
                "attempts": 1,
                "started_at": None,
                "finished_at": NOW,
                "resumed": False,
                "redrive_count": 1,
                "worker": "w",
            }
        },
        "redrive_count is 1, not 2",
    ),
]


@pytest.mark.invariant("P2")
@rows("row", OF_ANOTHER)
def test_a_result_of_another_is_known_by_what_it_says(row: tuple[dict[str, object], str]) -> None:
    other, words = row

    assert words in str(EXPECTED.mismatch(result(**other)))


@pytest.mark.invariant("P2")
@given(st.sets(st.sampled_from(["workflow_id", "workflow_run_id", "run", "answers"])))
def test_what_a_result_leaves_out_says_nothing_against_it(left_out: set[str]) -> None:
    assert EXPECTED.mismatch(result(**dict.fromkeys(left_out))) is None


@given(
    st.sets(st.sampled_from(["workflow_id", "workflow_run_id", "record", "redrive_count"])),
    st.sampled_from(OF_ANOTHER[2:]),
)
def test_what_a_waiter_does_not_know_it_does_not_ask_for(
    unknown: set[str], row: tuple[dict[str, object], str]
) -> None:
    expected = replace(EXPECTED, **dict.fromkeys(unknown))  # type: ignore[arg-type]  # all optional
    field = {"answers": "record", "run": "redrive_count"}
    asked = {field.get(name, name) for name in row[0]} - unknown

    assert (expected.mismatch(result(**row[0])) is None) is not bool(asked)


def test_a_result_that_names_no_record_is_refused_by_those_who_require_it() -> None:
    strict = replace(EXPECTED, must_name_record=True)

    assert "kafka.require_answers" in str(strict.mismatch(result(answers=None)))
    assert strict.mismatch(result()) is None
    # A trigger of a version that did not know its record cannot require it.
    assert replace(strict, record=None).mismatch(result(answers=None)) is None


def test_a_long_name_is_shown_in_part() -> None:
    assert len(str(EXPECTED.mismatch(result(workflow_id="x" * 100_000)))) < 300
