"""What each task of the demo must come to. Pure; `dag.py` and `graph.py` make it happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redrive.events import ResultStatus
from redrive.retry.kinds import Kind, Reason

__all__ = ["NODES", "PLAN", "WORKFLOW", "ExpectedLetter", "ExpectedRun"]

WORKFLOW = "demo"
NODES = ("research", "write", "review")


@dataclass(frozen=True, slots=True)
class ExpectedLetter:
    """Why the run must have been given up, and where."""

    kind: Kind
    reason: Reason
    node: str


@dataclass(frozen=True, slots=True)
class ExpectedRun:
    """How one task must end.

    Args:
        task: Its id in the DAG.
        state: How Airflow calls its end.
        status: The one answer on the results topic.
        attempts: How often the graph was started or resumed.
        executions: By node, the least that the attempts can do with: what succeeded is kept.
        letter: The dead letter, if the run must end in one.
    """

    task: str
    state: str
    status: ResultStatus
    attempts: int
    executions: Mapping[str, int]
    letter: ExpectedLetter | None = None

    @property
    def least(self) -> int:
        """The least possible number of node executions."""
        return sum(self.executions.values())


_ONCE = dict.fromkeys(NODES, 1)

PLAN = (
    ExpectedRun("succeeds", "success", ResultStatus.SUCCESS, 1, _ONCE),
    ExpectedRun("recovers", "success", ResultStatus.SUCCESS, 3, {**_ONCE, "write": 3}),
    ExpectedRun(
        "is_refused",
        "failed",
        ResultStatus.ERROR,
        1,
        _ONCE,
        ExpectedLetter(Kind.PERMANENT, Reason.PERMANENT, "review"),
    ),
)
