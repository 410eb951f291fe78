"""What has been seen so far, by task; becomes the summary. Pure: facts go in one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from redrive.dead_letter.record import DeadLetter
from redrive.demo.facts import (
    DagEnded,
    EventStored,
    Fact,
    LetterStored,
    NodeRan,
    ResultStored,
    TaskEnded,
    TaskError,
    TaskStarted,
)
from redrive.demo.plan import PLAN
from redrive.demo.summary import LetterFacts, RunFacts
from redrive.events import WorkflowResultEvent
from redrive.kafka.log import Record

__all__ = ["Story"]


@dataclass(slots=True)
class _Run:
    event: Record | None = None
    executions: Counter[str] = field(default_factory=Counter)
    results: list[WorkflowResultEvent] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


class Story:
    """Collects facts, in any order; those of events that are not ours stay out of the summary."""

    def __init__(self) -> None:
        self._runs: defaultdict[str, _Run] = defaultdict(_Run)
        self._tasks: dict[str, str] = {}
        self._errors: dict[str, TaskError] = {}
        self._states: Mapping[str, str] | None = None

    def task_of(self, event_id: str) -> str | None:
        """Return the task that sent this event, if it is one of ours."""
        return self._tasks.get(event_id)

    def executions_of(self, event_id: str, node: str) -> int:
        """Return how often the node was started for this event."""
        return self._runs[event_id].executions[node]

    @property
    def dag_ended(self) -> bool:
        """Whether Airflow has said how its tasks ended."""
        return self._states is not None

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come: each run has its answer, and the letter it names."""
        return self.dag_ended and all(_is_whole(self._runs[event_id]) for event_id in self._tasks)

    def add(self, fact: Fact) -> None:
        """Take a fact in."""
        match fact:
            case TaskStarted(task, event_id):
                self._tasks[event_id] = task
            case TaskEnded(task, _, error) if error is not None:
                self._errors[task] = error
            case DagEnded(states):
                self._states = states
            case EventStored(event_id, record):
                self._runs[event_id].event = record
            case NodeRan(event_id, node):
                self._runs[event_id].executions[node] += 1
            case ResultStored(result):
                self._runs[result.correlation_id].results.append(result)
            case LetterStored(event_id, letter):
                self._runs[event_id].letters.append(letter)
            case _:
                pass

    def runs(self) -> tuple[RunFacts, ...]:
        """Return what is known of each task of the plan."""
        events = {task: event_id for event_id, task in self._tasks.items()}
        return tuple(self._facts(one.task, events.get(one.task)) for one in PLAN)

    def _facts(self, task: str, event_id: str | None) -> RunFacts:
        state = (self._states or {}).get(task)
        if event_id is None:
            return RunFacts(task, state=state)
        run = self._runs[event_id]
        last = run.results[-1].run if run.results else None
        return RunFacts(
            task=task,
            event_id=event_id,
            state=state,
            statuses=tuple(result.status.value for result in run.results),
            attempts=None if last is None else last.attempts,
            executions=dict(run.executions),
            letters=tuple(_letter(letter, run.event) for letter in run.letters),
            error=self._errors.get(task),
        )


def _is_whole(run: _Run) -> bool:
    named = {r.error_info.dlq_id for r in run.results if r.error_info and r.error_info.dlq_id}
    return bool(run.results) and named <= {letter.dlq_id for letter in run.letters}


def _letter(letter: DeadLetter, event: Record | None) -> LetterFacts:
    source = letter.source
    return LetterFacts(
        dlq_id=letter.dlq_id,
        kind=letter.kind.value,
        reason=letter.reason.value,
        node=letter.node,
        byte_exact=event is not None
        and (source.key, source.value, tuple(source.headers))
        == (event.key, event.value, event.headers),
    )
