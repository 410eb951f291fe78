"""Says in words a newcomer understands what a fact means. Pure; how it looks is `timeline.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from redrive.demo.facts import (
    AirflowStep,
    DagEnded,
    EventStored,
    GivenUp,
    LetterStored,
    NodeRan,
    ResultStored,
    RetryScheduled,
    Seen,
    TaskEnded,
    TaskStarted,
    WorkerReady,
)
from redrive.demo.plan import NODES
from redrive.demo.story import Story
from redrive.events import ResultStatus

__all__ = ["Happening", "Mood", "Who", "tell"]

RunFact = EventStored | NodeRan | RetryScheduled | GivenUp | LetterStored | ResultStored


class Who(StrEnum):
    """Who did it."""

    AIRFLOW = "airflow"
    KAFKA = "kafka"
    WORKER = "worker"


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


def tell(seen: Seen, story: Story) -> Happening | None:
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


def _of_run(at: float, fact: RunFact, story: Story) -> Happening | None:
    """Return the line, with the task's name first; None for an event that is not ours."""
    event_id = fact.result.correlation_id if isinstance(fact, ResultStored) else fact.event_id
    task = story.task_of(event_id)
    if task is None:
        return None
    who, text, mood = _words(fact, story)
    return Happening(at, who, f"{task}: {text}", mood)


def _words(fact: RunFact, story: Story) -> tuple[Who, str, Mood]:
    match fact:
        case EventStored():
            text = "event stored; the task waits for the answer"
            said = (Who.KAFKA, text, Mood.PLAIN)
        case NodeRan(event_id, node):
            times = story.executions_of(event_id, node)
            again = f" again (execution {times}), from its checkpoint" if times > 1 else ""
            said = (Who.WORKER, f"runs {node}{again}", Mood.PLAIN)
        case RetryScheduled(_, node, kind, _, after_s):
            text = f"{node} failed ({kind}); goes on there in {after_s:.1f} s, keeps what is done"
            said = (Who.WORKER, text, Mood.TROUBLE)
        case GivenUp(_, node, kind):
            text = f"{node} failed ({kind}): trying again cannot help, so it gives up"
            said = (Who.WORKER, text, Mood.BAD)
        case LetterStored():
            said = (Who.KAFKA, "dead letter stored: the event, why, and where to resume", Mood.BAD)
        case ResultStored(result):
            good = result.status is ResultStatus.SUCCESS
            text = f"answer stored: {result.status.value}"
            said = (Who.KAFKA, text, Mood.GOOD if good else Mood.BAD)
        case _:
            assert_never(fact)
    return said
