"""Watches the demo until all has ended: reads every source, sorts by time, tells, collects."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Protocol

from redrive.clock import SYSTEM
from redrive.demo.facts import AirflowStep, Seen, TaskStarted
from redrive.demo.processes import Child
from redrive.demo.story import Story
from redrive.demo.telling import tell
from redrive.demo.timeline import Timeline
from redrive.errors import RedriveError

__all__ = ["DemoError", "Source", "Watch"]

_LOOK_EVERY_S = 0.05
# Sources are read one after the other: a line waits so long for an earlier one of another.
_SORT_FOR_S = 0.4
# Nothing more is expected, but a second answer would come within this.
_LAST_LOOK_S = 1.0
_AFTER_AIRFLOW_S = 10.0
_LIMIT_S = 240.0


class DemoError(RedriveError):
    """The demo could not be played to its end."""


class Source(Protocol):
    """Where facts come from."""

    def news(self) -> Iterable[Seen]:
        """Return what was added since the last look."""
        ...


class Watch:
    """One look after the other, in one thread.

    Args:
        airflow: Its process.
        worker: Its process.
        sources: Where facts come from.
        story: Takes them in.
        timeline: Shows them.
    """

    def __init__(
        self,
        airflow: Child,
        worker: Child,
        *,
        sources: Sequence[Source],
        story: Story,
        timeline: Timeline,
    ) -> None:
        self._airflow = airflow
        self._worker = worker
        self._sources = sources
        self._story = story
        self._timeline = timeline
        self._waiting: list[tuple[float, int, Seen]] = []
        self._order = count()

    def until_all_has_ended(self) -> None:
        """Return when each run has its ending, or Airflow has ended and no more comes.

        Raises:
            DemoError: A process ended too early, or it took too long.
        """
        limit = SYSTEM.monotonic() + _LIMIT_S
        for _ in self._looks():
            if self._story.complete:
                break
            if self._worker.exit_code is not None:
                raise DemoError(f"the worker ended by itself, with code {self._worker.exit_code}")
            if self._airflow.exit_code is not None:
                self._look_for(_AFTER_AIRFLOW_S)
                break
            if SYSTEM.monotonic() > limit:
                raise DemoError(f"the DAG has not ended within {_LIMIT_S:g} s")
        self._look_for(_LAST_LOOK_S, although_complete=True)
        self._tell(until=float("inf"))
        if not self._story.dag_ended:
            raise DemoError(
                f"Airflow's process ended before the DAG did, with code {self._airflow.exit_code}"
            )

    def _look_for(self, seconds: float, *, although_complete: bool = False) -> None:
        until = SYSTEM.monotonic() + seconds
        for _ in self._looks():
            done = self._story.complete and not although_complete
            if done or SYSTEM.monotonic() > until:
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
