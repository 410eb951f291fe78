"""The demo's verdict: what went as planned has no differences, and whatever did not has some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.rows import rows

from redrive.dead_letter.states import State
from redrive.demo.demo_verdict import differences
from redrive.demo.observations import (
    CommandEnded,
    CommandTyped,
    DagEnded,
    EventStored,
    Fact,
    LetterMoved,
    NodeRan,
    Observation,
    ResultStored,
    TaskError,
    TaskStarted,
)
from redrive.demo.plan import PLAN, ExpectedRun
from redrive.demo.story import Story
from redrive.demo.summary import AnswerFacts, CommandFacts, LetterFacts, RunFacts, Summary
from redrive.demo.telling import Mood, tell
from redrive.events import ResultStatus, RunInfo, WorkflowResultEvent
from redrive.kafka.log import ConsumerRecord, TopicPartition

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DRIVEN = CommandFacts("redrive dlq redrive the-id --yes", 0)


def as_planned(expected: ExpectedRun) -> RunFacts:
    letters: tuple[LetterFacts, ...] = ()
    error = None
    if (wanted := expected.letter) is not None:
        why = wanted.kind.value, wanted.reason.value, wanted.node
        state = wanted.state.value
        letters = (LetterFacts("the-id", *why, byte_exact=True, state=state),)
        error = TaskError(*why, expected.answers[0].attempts, "the-id")
    return RunFacts(
        task=expected.task,
        event_id=f"event of {expected.task}",
        state=expected.state,
        events=len(expected.answers),
        answers=tuple(
            AnswerFacts(each.status.value, each.attempts, each.redrive_count, each.resume_verified)
            for each in expected.answers
        ),
        executions=expected.executions,
        letters=letters,
        error=error,
    )


SUCCEEDS, RECOVERS, IS_REFUSED = (as_planned(expected) for expected in PLAN)
(LETTER,) = IS_REFUSED.letters
(ANSWER,) = SUCCEEDS.answers
FIRST, SECOND = IS_REFUSED.answers


def verdict_on(*runs: RunFacts, command: CommandFacts | None = DRIVEN) -> tuple[str, ...]:
    return differences(Summary("embedded", "at_least_once", 20.0, runs, command))


def test_what_went_as_planned_has_no_differences() -> None:
    assert verdict_on(SUCCEEDS, RECOVERS, IS_REFUSED) == ()


@rows(
    "doctored",
    [
        replace(SUCCEEDS, event_id=None),
        replace(SUCCEEDS, state="failed"),
        replace(SUCCEEDS, answers=()),
        replace(SUCCEEDS, answers=(ANSWER, ANSWER)),
        replace(SUCCEEDS, letters=(LETTER,)),
        replace(SUCCEEDS, events=2),
        replace(RECOVERS, answers=(replace(ANSWER, attempts=1),)),
        replace(RECOVERS, executions={"research": 3, "write": 3, "review": 1}),
        replace(RECOVERS, executions={"research": 1, "write": 3}),
        replace(IS_REFUSED, state="success"),
        replace(IS_REFUSED, letters=()),
        replace(IS_REFUSED, letters=(replace(LETTER, kind="transient"),)),
        replace(IS_REFUSED, letters=(replace(LETTER, byte_exact=False),)),
        replace(IS_REFUSED, letters=(replace(LETTER, state="open"),)),
        replace(IS_REFUSED, letters=(replace(LETTER, state="redriven"),)),
        replace(IS_REFUSED, letters=(LETTER, LETTER)),
        replace(IS_REFUSED, error=None),
        replace(IS_REFUSED, error=TaskError("permanent", "permanent", "review", 1, None)),
        replace(IS_REFUSED, error=TaskError("permanent", "permanent", "review", 2, "the-id")),
        replace(IS_REFUSED, events=1),
        replace(IS_REFUSED, events_equal=False),
        replace(IS_REFUSED, answers=(FIRST,)),
        replace(IS_REFUSED, answers=(SECOND, FIRST)),
        replace(IS_REFUSED, answers=(FIRST, replace(SECOND, status="error"))),
        replace(IS_REFUSED, answers=(FIRST, SECOND, SECOND)),
        replace(IS_REFUSED, answers=(FIRST, replace(SECOND, redrive_count=0))),
        replace(IS_REFUSED, answers=(FIRST, replace(SECOND, resume_verified=False))),
        replace(IS_REFUSED, answers=(FIRST, replace(SECOND, resume_verified=None))),
        replace(IS_REFUSED, executions={"research": 2, "write": 1, "review": 2}),
        replace(IS_REFUSED, executions={"research": 1, "write": 1, "review": 1}),
    ],
)
def test_each_difference_is_found_and_names_its_task(doctored: RunFacts) -> None:
    good = {run.task: run for run in (SUCCEEDS, RECOVERS, IS_REFUSED)}

    found = verdict_on(*{**good, doctored.task: doctored}.values())

    assert found
    assert all(line.startswith(f"{doctored.task}: ") for line in found)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (None, "no letter was driven again"),
        (replace(DRIVEN, exit_code=None), f"exit code of `{DRIVEN.command}`: None, expected 0"),
        (replace(DRIVEN, exit_code=1), f"exit code of `{DRIVEN.command}`: 1, expected 0"),
    ],
)
def test_a_command_that_did_not_do_its_work_is_told(
    command: CommandFacts | None, line: str
) -> None:
    assert verdict_on(SUCCEEDS, RECOVERS, IS_REFUSED, command=command) == (line,)


def event(value: bytes = b"{}", *, of: str | None = None) -> EventStored:
    headers = () if of is None else (("redrive-of", of.encode()),)
    return EventStored("e", ConsumerRecord(TopicPartition("events", 0), 0, b"e", value, headers, 0))


def answer(status: ResultStatus, count: int, *, verified: bool | None) -> ResultStored:
    run = RunInfo(
        attempts=1,
        started_at=NOW,
        finished_at=NOW,
        resumed=count > 0,
        redrive_count=count,
        worker="w",
        resume_verified=verified,
    )
    return ResultStored(
        WorkflowResultEvent(
            correlation_id="e",
            workflow_id="demo",
            workflow_run_id="r",
            status=status,
            timestamp=NOW,
            run=run,
        )
    )


def driven_anew() -> Iterator[Fact]:
    """What is seen when a redrive begins at the first node, in place of the failed one."""
    yield TaskStarted("is_refused", "e")
    yield event()
    yield from (NodeRan("e", node) for node in ("research", "write", "review"))
    yield answer(ResultStatus.ERROR, 0, verified=None)
    yield DagEnded({"is_refused": "failed"})
    yield CommandTyped("redrive dlq redrive the-id --yes")
    yield event(of="the-id")
    yield LetterMoved("e", "the-id", State.REDRIVEN, "anna")
    yield from (NodeRan("e", node) for node in ("research", "write", "review"))
    yield answer(ResultStatus.SUCCESS, 1, verified=False)
    yield LetterMoved("e", "the-id", State.RESOLVED, "worker w")
    yield CommandEnded(0)


def test_a_redrive_that_runs_finished_nodes_again_is_reported() -> None:
    story = Story()
    for fact in driven_anew():
        story.add(fact)

    found = verdict_on(*story.runs(), command=story.command)

    assert "is_refused: executions of node 'research': 2, expected 1" in found
    assert "is_refused: executions of node 'write': 2, expected 1" in found
    assert "is_refused: resumes verified by the worker: None, False, expected None, True" in found
    assert not any("review" in line and "executions" in line for line in found)


def test_the_timeline_says_so_when_finished_nodes_ran_again() -> None:
    story = Story()
    story.add(TaskStarted("is_refused", "e"))
    stored = answer(ResultStatus.SUCCESS, 1, verified=False)

    line = tell(Observation(1.0, stored), story)

    assert line is not None
    assert line.mood is Mood.BAD
    assert line.text.endswith("but the worker saw finished nodes run again")


def test_an_event_that_comes_back_changed_is_reported() -> None:
    story = Story()
    for fact in (TaskStarted("is_refused", "e"), event(), event(b'{"x": 1}', of="the-id")):
        story.add(fact)

    found = verdict_on(*story.runs(), command=DRIVEN)

    assert (
        "is_refused: the event that was stored again has not the first one's key and value" in found
    )
