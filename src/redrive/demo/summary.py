"""What the demo came to, as facts that can be printed, compared, and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from redrive.demo.observations import TaskError

__all__ = ["AnswerFacts", "CommandFacts", "LetterFacts", "RunFacts", "Summary"]


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """An answer, as it was read from the results topic.

    `redrive_count` is 0 for that to the event itself, 1 for that to its letter, driven again.
    """

    status: str
    attempts: int | None = None
    redrive_count: int | None = None
    resume_verified: bool | None = None


@dataclass(frozen=True, slots=True)
class LetterFacts:
    """A dead letter, as it was read from its topic."""

    dlq_id: str
    kind: str
    reason: str
    node: str | None
    byte_exact: bool
    """Key, value and headers are those of the event's own record."""
    state: str = "open"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One task of the DAG and the run that it started.

    `answers` holds one entry per answer on the results topic: there must be exactly one for each
    record of the event. `events_equal`: all these records have the same key and value.
    """

    task: str
    event_id: str | None = None
    state: str | None = None
    events: int = 0
    events_equal: bool = True
    answers: tuple[AnswerFacts, ...] = ()
    executions: Mapping[str, int] | None = None
    letters: tuple[LetterFacts, ...] = ()
    error: TaskError | None = None

    @property
    def node_executions(self) -> int:
        """How many times a node was started, all in all."""
        return sum((self.executions or {}).values())


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """The command that drove letters again; `exit_code` is None when it did not end."""

    command: str
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole demo."""

    broker: str
    delivery: str
    seconds: float
    runs: tuple[RunFacts, ...]
    command: CommandFacts | None = None

    def as_json(self) -> dict[str, object]:
        """Return it as JSON takes it."""
        return asdict(self)
