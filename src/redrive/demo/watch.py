"""Watches the demo until all has ended: reads every source, sorts by time, tells, collects."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Protocol

from redrive.clock import SYSTEM
from redrive.demo.observations import AirflowStep, CommandTyped, Observation, TaskStarted
from redrive.demo.processes import DemoProcess
from redrive.demo.story import Story
from redrive.demo.telling import tell
from redrive.demo.timeline import Timeline
from redrive.errors import RedriveError

__all__ = ["DemoError", "DemoWatch", "FactSource"]

_LOOK_EVERY_S = 0.05
# Sources are read one after the other: a line waits so long for an earlier one of another.
_SORT_FOR_S = 0.4
# Nothing more is expected, but a second answer would come within this.
_LAST_LOOK_S = 1.0
# What has ended may have left something that is still to be seen.
_AFTER_ITS_END_S = 10.0
_LIMIT_S = 240.0
_COMMAND_LIMIT_S = 60.0


class DemoError(RedriveError):
    """The demo could not be played to its end."""


class FactSource(Protocol):
    """Where facts come from."""

    def news(self) -> Iterable[Observation]:
        """Return what was added since the last look."""
        ...


class DemoWatch:
    """One look after the other, in one thread.

    Args:
        worker: Its process, which must not end.
        sources: Where facts come from.
        story: Takes them in.
        timeline: Shows them.
    """

    def __init__(
        self,
        worker: DemoProcess,
        *,
        sources: Sequence[FactSource],
        story: Story,
        timeline: Timeline,
    ) -> None:
        self._worker = worker
        self._sources = sources
        self._story = story
        self._timeline = timeline
        self._waiting: list[tuple[float, int, Observation]] = []
        self._order = count()

    def until_the_dag_has_ended(self, airflow: DemoProcess) -> None:
        """Return when each run has its ending, or Airflow has ended and no more comes.

        Raises:
            DemoError: A process ended too early, or it took too long.
        """
        self._until(lambda: self._story.dag_is_whole, airflow, limit_s=_LIMIT_S, what="the DAG")
        if not self._story.dag_ended:
            raise DemoError(
                f"Airflow's process ended before the DAG did, with code {airflow.exit_code}"
            )

    def until_it_is_driven(self, command: DemoProcess) -> None:
        """Return when the letters are resolved, or the command has ended and no more comes.

        Raises:
            DemoError: The worker ended, or it took too long.
        """
        what = "`redrive dlq redrive`"
        self._until(lambda: self._story.is_driven, command, limit_s=_COMMAND_LIMIT_S, what=what)

    def to_the_end(self) -> None:
        """Look a last time for what should not come, and tell all that was seen."""
        self._look_for(_LAST_LOOK_S)
        self._tell(until=float("inf"))

    def _until(
        self, ended: Callable[[], bool], child: DemoProcess, *, limit_s: float, what: str
    ) -> None:
        limit = SYSTEM.monotonic() + limit_s
        for _ in self._looks():
            if ended():
                return
            if self._worker.exit_code is not None:
                raise DemoError(f"the worker ended by itself, with code {self._worker.exit_code}")
            if child.exit_code is not None:
                self._look_for(_AFTER_ITS_END_S, unless=ended)
                return
            if SYSTEM.monotonic() > limit:
                raise DemoError(f"{what} has not ended within {limit_s:g} s")

    def _look_for(self, seconds: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        until = SYSTEM.monotonic() + seconds
        for _ in self._looks():
            if unless() or SYSTEM.monotonic() > until:
                return

    def _looks(self) -> Iterator[None]:
        while True:
            for source in self._sources:
                for seen in source.news():
                    heapq.heappush(self._waiting, (seen.at, next(self._order), seen))
            self._tell(until=SYSTEM.now().timestamp() - _SORT_FOR_S)
            yield
            SYSTEM.block(_LOOK_EVERY_S)

    def _tell(self, *, until: float) -> None:
        while self._waiting and self._waiting[0][0] <= until:
            _, _, seen = heapq.heappop(self._waiting)
            self._story.add(seen.fact)
            happening = tell(seen, self._story)
            if happening is not None:
                self._timeline.add(happening)
            match seen.fact:
                case AirflowStep():
                    self._timeline.waiting_for("Airflow is at work")
                case TaskStarted(task):
                    self._timeline.waiting_for(f"task {task} runs")
                case CommandTyped():
                    self._timeline.waiting_for("the letter is driven again")
