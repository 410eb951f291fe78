"""What each task of the demo must come to. Pure; `dag.py` and `graph.py` make it happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redrive.dead_letter.states import State
from redrive.events import ResultStatus
from redrive.retry.kinds import Kind, Reason

__all__ = [
    "NODES",
    "PLAN",
    "REFUSED_TOPIC",
    "WORKFLOW",
    "ExpectedAnswer",
    "ExpectedLetter",
    "ExpectedRun",
]

WORKFLOW = "demo"
NODES = ("research", "write", "review")
REFUSED_TOPIC = "secrets"
"""What the reviewer refuses until the cause is fixed; a task of `dag.py` asks for it."""


@dataclass(frozen=True, slots=True)
class ExpectedAnswer:
    """One answer on the results topic.

    Args:
        status: What it says.
        attempts: How often the graph was started or resumed for it.
        redrive_count: How often the letter had been driven.
        resume_verified: Whether the worker must have seen that no finished node ran again.
    """

    status: ResultStatus
    attempts: int = 1
    redrive_count: int = 0
    resume_verified: bool | None = None


@dataclass(frozen=True, slots=True)
class ExpectedLetter:
    """Why the run must have been given up, where, and what must have become of the letter."""

    kind: Kind
    reason: Reason
    node: str
    state: State


@dataclass(frozen=True, slots=True)
class ExpectedRun:
    """How one task must end.

    Args:
        task: Its id in the DAG.
        state: How Airflow calls its end.
        answers: What lies on the results topic, in this order: one for each record of the event.
        executions: By node, the least that the attempts can do with: what succeeded is kept.
        letter: The dead letter, if the run must end in one; it is then driven again.
    """

    task: str
    state: str
    answers: tuple[ExpectedAnswer, ...]
    executions: Mapping[str, int]
    letter: ExpectedLetter | None = None

    @property
    def least(self) -> int:
        """The least possible number of node executions."""
        return sum(self.executions.values())


_ONCE = dict.fromkeys(NODES, 1)

PLAN = (
    ExpectedRun("succeeds", "success", (ExpectedAnswer(ResultStatus.SUCCESS),), _ONCE),
    ExpectedRun(
        "recovers",
        "success",
        (ExpectedAnswer(ResultStatus.SUCCESS, attempts=3),),
        {**_ONCE, "write": 3},
    ),
    ExpectedRun(
        "is_refused",
        "failed",
        (
            ExpectedAnswer(ResultStatus.ERROR),
            ExpectedAnswer(ResultStatus.SUCCESS, redrive_count=1, resume_verified=True),
        ),
        {**_ONCE, "review": 2},
        ExpectedLetter(Kind.PERMANENT, Reason.PERMANENT, "review", State.RESOLVED),
    ),
)
