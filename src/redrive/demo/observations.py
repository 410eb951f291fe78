"""What can be seen of the demo, each kind a fact of its own: by Airflow, worker, Kafka, or user.

How they are read is `sources.py`; what they add up to is `story.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import State
from redrive.events import WorkflowResultEvent
from redrive.kafka.log import ConsumerRecord

__all__ = [
    "AirflowStep",
    "CauseFixed",
    "CommandEnded",
    "CommandTyped",
    "DagEnded",
    "EventStored",
    "Fact",
    "LetterMoved",
    "LetterStored",
    "NodeRan",
    "Observation",
    "ResultStored",
    "RetryScheduled",
    "RunGivenUp",
    "TaskEnded",
    "TaskError",
    "TaskStarted",
    "WorkerReady",
]


@dataclass(frozen=True, slots=True)
class AirflowStep:
    """Airflow's process begins something that takes its time."""

    text: str


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A task begins: from here on its event's id is known."""

    task: str
    event_id: str


@dataclass(frozen=True, slots=True)
class TaskError:
    """What the task raised: the attributes of its exception."""

    kind: str | None
    reason: str | None
    node: str | None
    attempts: int | None
    dlq_id: str | None


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task has ended, with its error when it failed."""

    task: str
    state: str
    error: TaskError | None


@dataclass(frozen=True, slots=True)
class DagEnded:
    """The DAG run has ended: the states of its tasks, as Airflow keeps them."""

    states: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker takes events from now on."""


@dataclass(frozen=True, slots=True)
class NodeRan:
    """A node was started."""

    event_id: str
    node: str


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """An attempt failed; the worker will resume the run."""

    event_id: str
    node: str
    kind: str
    attempt: int
    after_s: float


@dataclass(frozen=True, slots=True)
class RunGivenUp:
    """An attempt failed, and the worker gives the run up."""

    event_id: str
    node: str
    kind: str


@dataclass(frozen=True, slots=True)
class EventStored:
    """An event lies on its topic."""

    event_id: str
    record: ConsumerRecord

    @property
    def redriven(self) -> bool:
        """Whether it was sent back from a letter."""
        return any(name == "redrive-of" for name, _ in self.record.headers)


@dataclass(frozen=True, slots=True)
class ResultStored:
    """A result lies on its topic, committed."""

    result: WorkflowResultEvent


@dataclass(frozen=True, slots=True)
class LetterStored:
    """A dead letter lies on its topic, committed."""

    event_id: str
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class LetterMoved:
    """A record beside a letter says where it stands now, and who moved it."""

    event_id: str
    dlq_id: str
    state: State
    actor: str


@dataclass(frozen=True, slots=True)
class CauseFixed:
    """The reviewer's policy no longer refuses `topic`."""

    topic: str
    file: str


@dataclass(frozen=True, slots=True)
class CommandTyped:
    """A command begins to run, in a process of its own."""

    command: str


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """The command has ended."""

    exit_code: int


Fact = (
    AirflowStep
    | TaskStarted
    | TaskEnded
    | DagEnded
    | WorkerReady
    | NodeRan
    | RetryScheduled
    | RunGivenUp
    | EventStored
    | ResultStored
    | LetterStored
    | LetterMoved
    | CauseFixed
    | CommandTyped
    | CommandEnded
)


@dataclass(frozen=True, slots=True)
class Observation:
    """A fact, and when it happened (epoch seconds, by the clock of who says it)."""

    at: float
    fact: Fact
