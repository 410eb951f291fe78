"""What an answer means for the task: pure, no Airflow, no Kafka."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redrive.airflow.run_answers import FailedRun, SucceededRun, heard, judge, not_heard
from redrive.errors import RecordError
from redrive.events import ErrorInfo, ResultStatus, WorkflowResultEvent
from redrive.retry.kinds import Kind, Reason

EVENT = "6f0d2b2e-6f1c-5d6a-9a55-1f6f0c3b7a11"


def result(
    status: ResultStatus,
    *,
    said: object = None,
    kind: Kind | None = None,
    reason: Reason = Reason.RETRIES_EXHAUSTED,
    error: str | None = None,
) -> WorkflowResultEvent:
    info = None
    if kind is not None:
        info = ErrorInfo(
            kind=kind,
            type="ModelError",
            message="the model said no",
            reason=reason,
            node="think",
            attempts=4,
            exhausted=True,
            dlq_id="letter-1",
        )
    return WorkflowResultEvent(
        correlation_id=EVENT,
        workflow_id="agent",
        workflow_run_id="run",
        result=said,
        status=status,
        timestamp=datetime.now(UTC),
        error=error,
        error_info=info,
    )


def judged(of: WorkflowResultEvent) -> SucceededRun | FailedRun:
    # As it comes through the trigger's event and Airflow's database.
    return judge(json.loads(json.dumps(heard(of))))


@pytest.mark.parametrize("said", [{"a": [1, None]}, "text", 0, None])
def test_a_success_hands_the_result_over_as_it_is(said: object) -> None:
    assert judged(result(ResultStatus.SUCCESS, said=said)) == SucceededRun(said)


results = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["__type", "__var", "__classname__", "__id__", "a"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@pytest.mark.invariant("P7")
@example(float("inf"))
@example([{"a": float("-inf")}])
@given(results)
def test_a_result_is_handed_on_as_it_is_or_refused_in_words(said: object) -> None:
    answer = heard(result(ResultStatus.SUCCESS, said=said))

    # What goes through the triggerer is text alone.
    assert {type(value) for value in answer.values()} == {str}
    run = judge(answer)
    if isinstance(run, FailedRun):
        assert run.final
        assert "cannot store its result" in run.text
    else:
        assert run == SucceededRun(said)


def test_an_answer_of_a_trigger_of_the_version_before_is_read() -> None:
    record = result(ResultStatus.SUCCESS, said={"a": 1}).model_dump(mode="json")

    run = judge({"status": "success", "event_id": EVENT, "record": record})

    assert run == SucceededRun({"a": 1})


@pytest.mark.parametrize(
    ("kind", "final"),
    [
        (Kind.TRANSIENT, False),
        (Kind.RATE_LIMITED, False),
        (Kind.TIMEOUT, False),
        (Kind.UNKNOWN, False),
        (Kind.PERMANENT, True),
        (Kind.POISON, True),
        (Kind.CANCELLED, True),
    ],
)
def test_only_kinds_that_can_end_otherwise_are_worth_another_try(kind: Kind, final: bool) -> None:  # noqa: FBT001 - a column of the table
    run = judged(result(ResultStatus.ERROR, kind=kind))

    assert isinstance(run, FailedRun)
    assert run.final is final


def test_a_graph_that_says_itself_that_it_failed_is_not_tried_again() -> None:
    run = judged(result(ResultStatus.FAILURE, kind=Kind.TRANSIENT, reason=Reason.GRAPH_FAILED))

    assert isinstance(run, FailedRun)
    assert run.final
    assert run.reason == "graph_failed"


def test_a_failure_carries_the_facts_and_tells_them() -> None:
    run = judged(result(ResultStatus.ERROR, kind=Kind.TRANSIENT))

    assert isinstance(run, FailedRun)
    facts = (run.kind, run.reason, run.node, run.attempts, run.dlq_id, run.event_id)
    assert facts == ("transient", "retries_exhausted", "think", 4, "letter-1", EVENT)
    assert run.text == (
        "workflow 'agent' was given up: ModelError: the model said no (kind=transient, "
        "reason=retries_exhausted, node=think, attempts=4, dlq_id=letter-1, "
        f"event_id={EVENT}). Show the letter: redrive dlq show letter-1"
    )


def test_an_error_of_another_producer_is_told_by_its_text() -> None:
    run = judged(result(ResultStatus.ERROR, error="it broke"))

    assert isinstance(run, FailedRun)
    assert "it broke" in run.text
    assert run.kind is None
    assert not run.final


@pytest.mark.invariant("P8")
def test_no_answer_in_time_is_a_deadline() -> None:
    run = judge(not_heard(EVENT, "no result"))

    assert isinstance(run, FailedRun)
    assert (run.kind, run.reason, run.event_id) == ("timeout", "deadline", EVENT)


def test_an_answer_without_a_result_is_refused() -> None:
    with pytest.raises(RecordError, match="no result"):
        judge({"status": "success", "event_id": EVENT})
