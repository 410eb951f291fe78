"""What has been seen so far, by task; becomes the summary. Pure: facts go in one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import State
from redrive.demo.observations import (
    CommandEnded,
    CommandTyped,
    DagEnded,
    EventStored,
    Fact,
    LetterMoved,
    LetterStored,
    NodeRan,
    ResultStored,
    TaskEnded,
    TaskError,
    TaskStarted,
)
from redrive.demo.plan import PLAN
from redrive.demo.summary import AnswerFacts, CommandFacts, LetterFacts, RunFacts
from redrive.events import WorkflowResultEvent
from redrive.kafka.log import ConsumerRecord

__all__ = ["Story"]


@dataclass(slots=True)
class _Run:
    events: list[ConsumerRecord] = field(default_factory=list)
    executions: Counter[str] = field(default_factory=Counter)
    results: list[WorkflowResultEvent] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)


class Story:
    """Collects facts, in any order; those of events that are not ours stay out of the summary."""

    def __init__(self) -> None:
        self._runs: defaultdict[str, _Run] = defaultdict(_Run)
        self._tasks: dict[str, str] = {}
        self._errors: dict[str, TaskError] = {}
        self._states: Mapping[str, str] | None = None
        self._command: CommandFacts | None = None

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
    def dag_is_whole(self) -> bool:
        """Whether the DAG has ended, and each run has its answer, and the letter it names."""
        return self.dag_ended and all(_is_whole(run) for run in self._ours())

    @property
    def letters(self) -> tuple[str, ...]:
        """The ids of the letters, as far as they have come."""
        return tuple(letter.dlq_id for run in self._ours() for letter in run.letters)

    @property
    def is_driven(self) -> bool:
        """Whether the letters were driven, and are resolved."""
        ended = self._command is not None and self._command.exit_code is not None
        return ended and all(_is_resolved(run) for run in self._ours())

    @property
    def command(self) -> CommandFacts | None:
        """The command that drove the letters, if there was one."""
        return self._command

    def add(self, fact: Fact) -> None:
        """Take a fact in."""
        match fact:
            case TaskStarted(task, event_id):
                self._tasks[event_id] = task
            case TaskEnded(task, _, error) if error is not None:
                self._errors[task] = error
            case DagEnded(states):
                self._states = states
            case CommandTyped(command):
                self._command = CommandFacts(command)
            case CommandEnded(exit_code) if self._command is not None:
                self._command = replace(self._command, exit_code=exit_code)
            case _:
                self._add_to_run(fact)

    def _add_to_run(self, fact: Fact) -> None:
        match fact:
            case EventStored(event_id, record):
                self._runs[event_id].events.append(record)
            case NodeRan(event_id, node):
                self._runs[event_id].executions[node] += 1
            case ResultStored(result):
                self._runs[result.correlation_id].results.append(result)
            case LetterStored(event_id, letter):
                self._runs[event_id].letters.append(letter)
            case LetterMoved(event_id, dlq_id, state):
                self._runs[event_id].states[dlq_id] = state
            case _:
                pass

    def runs(self) -> tuple[RunFacts, ...]:
        """Return what is known of each task of the plan."""
        events = {task: event_id for event_id, task in self._tasks.items()}
        return tuple(self._facts(one.task, events.get(one.task)) for one in PLAN)

    def _ours(self) -> Iterator[_Run]:
        return (self._runs[event_id] for event_id in self._tasks)

    def _facts(self, task: str, event_id: str | None) -> RunFacts:
        state = (self._states or {}).get(task)
        if event_id is None:
            return RunFacts(task, state=state)
        run = self._runs[event_id]
        first = run.events[0] if run.events else None
        return RunFacts(
            task=task,
            event_id=event_id,
            state=state,
            events=len(run.events),
            events_equal=len({(event.key, event.value) for event in run.events}) <= 1,
            answers=tuple(_answer(result) for result in run.results),
            executions=dict(run.executions),
            letters=tuple(_letter(letter, first, run.states) for letter in run.letters),
            error=self._errors.get(task),
        )


def _is_whole(run: _Run) -> bool:
    named = {r.error_info.dlq_id for r in run.results if r.error_info and r.error_info.dlq_id}
    return bool(run.results) and named <= {letter.dlq_id for letter in run.letters}


def _is_resolved(run: _Run) -> bool:
    return all(run.states.get(letter.dlq_id) is State.RESOLVED for letter in run.letters)


def _answer(result: WorkflowResultEvent) -> AnswerFacts:
    status, run = result.status.value, result.run
    if run is None:
        return AnswerFacts(status)
    return AnswerFacts(status, run.attempts, run.redrive_count, run.resume_verified)


def _letter(
    letter: DeadLetter, event: ConsumerRecord | None, states: Mapping[str, State]
) -> LetterFacts:
    source = letter.source
    return LetterFacts(
        dlq_id=letter.dlq_id,
        kind=letter.kind.value,
        reason=letter.reason.value,
        node=letter.node,
        byte_exact=event is not None
        and (source.key, source.value, tuple(source.headers))
        == (event.key, event.value, event.headers),
        state=states.get(letter.dlq_id, State.OPEN).value,
    )
