"""Says in words a newcomer understands what a fact means. Pure; how it looks is `timeline.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from redrive.dead_letter.states import State
from redrive.demo.observations import (
    AirflowStep,
    CauseFixed,
    CommandEnded,
    CommandTyped,
    DagEnded,
    EventStored,
    LetterMoved,
    LetterStored,
    NodeRan,
    Observation,
    ResultStored,
    RetryScheduled,
    RunGivenUp,
    TaskEnded,
    TaskStarted,
    WorkerReady,
)
from redrive.demo.plan import NODES
from redrive.demo.story import Story
from redrive.events import ResultStatus, WorkflowResultEvent

__all__ = ["Happening", "Mood", "Who", "tell"]

WorkerFact = NodeRan | RetryScheduled | RunGivenUp
TopicFact = EventStored | LetterStored | LetterMoved | ResultStored
UserFact = CauseFixed | CommandTyped | CommandEnded


class Who(StrEnum):
    """Who did it."""

    AIRFLOW = "airflow"
    KAFKA = "kafka"
    WORKER = "worker"
    USER = "user"


class Mood(StrEnum):
    """How it went."""

    PLAIN = "plain"
    GOOD = "good"
    TROUBLE = "trouble"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the timeline."""

    at: float
    who: Who
    text: str
    mood: Mood = Mood.PLAIN


def tell(seen: Observation, story: Story) -> Happening | None:
    """Return the line for a fact that `story` has taken in; None where nobody need know."""
    match seen.fact:
        case AirflowStep(text):
            return Happening(seen.at, Who.AIRFLOW, text)
        case TaskEnded():
            return Happening(seen.at, Who.AIRFLOW, *_task_ended(seen.fact))
        case WorkerReady():
            text = f"ready: graph {' -> '.join(NODES)}, checkpoints in SQLite"
            return Happening(seen.at, Who.WORKER, text)
        case TaskStarted() | DagEnded():
            return None
        case CauseFixed() | CommandTyped() | CommandEnded():
            return Happening(seen.at, Who.USER, *_of_user(seen.fact))
        case _:
            return _of_run(seen.at, seen.fact, story)


def _task_ended(ended: TaskEnded) -> tuple[str, Mood]:
    if ended.state == "success":
        return f"{ended.task}: the task has its result", Mood.GOOD
    error = ended.error
    if error is None or error.dlq_id is None:
        return f"{ended.task}: the task failed", Mood.BAD
    facts = f"kind {error.kind}, node {error.node}, attempts {error.attempts}, and the letter"
    return f"{ended.task}: the task failed; its error names {facts}", Mood.BAD


def _of_user(fact: UserFact) -> tuple[str, Mood]:
    match fact:
        case CauseFixed(topic, file):
            text = f"fixes the cause: takes {topic!r} off the reviewer's list, {file}"
            return text, Mood.PLAIN
        case CommandTyped(command):
            return f"types: {command}", Mood.PLAIN
        case CommandEnded(0):
            return "the command has seen the new answer, and ends with exit code 0", Mood.GOOD
        case CommandEnded(exit_code):
            return f"the command ends with exit code {exit_code}", Mood.BAD
        case _:
            assert_never(fact)


def _of_run(at: float, fact: WorkerFact | TopicFact, story: Story) -> Happening | None:
    """Return the line, with the task's name first; None for an event that is not ours."""
    event_id = fact.result.correlation_id if isinstance(fact, ResultStored) else fact.event_id
    task = story.task_of(event_id)
    if task is None:
        return None
    match fact:
        case NodeRan() | RetryScheduled() | RunGivenUp():
            text, mood = _of_worker(fact, story)
            return Happening(at, Who.WORKER, f"{task}: {text}", mood)
        case _:
            text, mood = _of_topic(fact)
            return Happening(at, Who.KAFKA, f"{task}: {text}", mood)


def _of_worker(fact: WorkerFact, story: Story) -> tuple[str, Mood]:
    match fact:
        case NodeRan(event_id, node):
            times = story.executions_of(event_id, node)
            again = f" again (execution {times}), from its checkpoint" if times > 1 else ""
            return f"runs {node}{again}", Mood.PLAIN
        case RetryScheduled(_, node, kind, _, after_s):
            text = f"{node} failed ({kind}); goes on there in {after_s:.1f} s, keeps what is done"
            return text, Mood.TROUBLE
        case RunGivenUp(_, node, kind):
            text = f"{node} failed ({kind}): trying again cannot help, so it gives up"
            return text, Mood.BAD
        case _:
            assert_never(fact)


def _of_topic(fact: TopicFact) -> tuple[str, Mood]:
    match fact:
        case EventStored() if fact.redriven:
            return "event stored again, with its letter's id and where to resume", Mood.PLAIN
        case EventStored():
            return "event stored; the task waits for the answer", Mood.PLAIN
        case LetterStored():
            return "dead letter stored: the event, why, and where to resume", Mood.BAD
        case LetterMoved(state=State.RESOLVED):
            return "letter marked resolved", Mood.GOOD
        case LetterMoved(_, _, state, actor):
            return f"letter marked {state.value}, by {actor}", Mood.PLAIN
        case ResultStored(result):
            return _answer(result)
        case _:
            assert_never(fact)


def _answer(result: WorkflowResultEvent) -> tuple[str, Mood]:
    text = f"answer stored: {result.status.value}"
    match result.run and result.run.resume_verified:
        case True:
            text += "; the worker verified that no finished node ran again"
        case False:
            return f"{text}; but the worker saw finished nodes run again", Mood.BAD
    return text, Mood.GOOD if result.status is ResultStatus.SUCCESS else Mood.BAD
