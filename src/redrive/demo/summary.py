"""What the demo came to, as facts that can be printed, compared, and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from redrive.demo.facts import TaskError

__all__ = ["LetterFacts", "RunFacts", "Summary"]


@dataclass(frozen=True, slots=True)
class LetterFacts:
    """A dead letter, as it was read from its topic."""

    dlq_id: str
    kind: str
    reason: str
    node: str | None
    byte_exact: bool
    """Key, value and headers are those of the event's own record."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One task of the DAG and the run that it started.

    `statuses` holds one entry per answer on the results topic: there must be exactly one.
    """

    task: str
    event_id: str | None = None
    state: str | None = None
    statuses: tuple[str, ...] = ()
    attempts: int | None = None
    executions: Mapping[str, int] | None = None
    letters: tuple[LetterFacts, ...] = ()
    error: TaskError | None = None

    @property
    def node_executions(self) -> int:
        """How many times a node was started, all in all."""
        return sum((self.executions or {}).values())


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole demo."""

    broker: str
    delivery: str
    seconds: float
    runs: tuple[RunFacts, ...]

    def as_json(self) -> dict[str, object]:
        """Return it as JSON takes it."""
        return asdict(self)
