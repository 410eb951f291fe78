"""Whose turn it is: what is due, in order, not cooling down, and not under suspicion.

Pure bookkeeping of the event loop; times are the caller's monotonic seconds. A run that was running
when a process died is suspected: few of them run at the same time, and one on its last chance runs
alone in its process, so that only the guilty one is condemned. [P5]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from redrive.consumer.run import Run
from redrive.kafka.log import Place
from redrive.state.dues import Dues
from redrive.state.lanes import Lanes

__all__ = ["Turns"]

# No workflow's name: what waits for room among the offsets that a commit can speak of.
_FULL = "\0full"


class Turns:
    """Runs that wait to start.

    Args:
        in_flight: How many may run at the same time.
        max_crashes: A run with so many is condemned: it is told so, and never runs.
        suspects_at_once: How many suspected runs may run beside each other.
    """

    def __init__(self, *, in_flight: int, max_crashes: int, suspects_at_once: int) -> None:
        self._in_flight = in_flight
        self._max_crashes = max_crashes
        self._suspects_at_once = suspects_at_once
        self._lanes: Lanes[Run] = Lanes()
        self._held: Dues[Run] = Dues()
        self._cooling: dict[str, float] = {}
        self._aside: deque[Run] = deque()
        self._lonely: deque[Run] = deque()
        self._taken: set[Run] = set()
        self._suspects = 0
        self._alone = False
        self._full = False

    def put(self, run: Run) -> None:
        """Let a new run wait for its turn, behind those of its thread that came before."""
        self._lanes.put(run.delivery.place, run.thread_id, run)

    def hold(self, run: Run, *, until: float) -> None:
        """Let a run wait for its next attempt."""
        self._held.put(until, run)

    def cool(self, workflow_id: str, *, until: float) -> None:
        """Start nothing of a workflow before `until`: a service asked for that."""
        self._cooling[workflow_id] = max(until, self._cooling.get(workflow_id, until))

    def next_due(self) -> float | None:
        """Return when something will be due, or None when nothing waits for its time."""
        dues = [*self._cooling.values()]
        if self._held.next_due is not None:
            dues.append(self._held.next_due)
        return min(dues, default=None)

    def rests_until(self, workflow_id: str) -> float | None:
        """Return until when nothing of a workflow is to start; may be called from any thread."""
        return self._cooling.get(workflow_id)

    @property
    def held(self) -> int:
        """How many runs wait for their time; may be read from any thread."""
        return len(self._held)

    @property
    def next_held(self) -> float | None:
        """When the first of them is due; may be read from any thread."""
        return self._held.next_due

    def is_condemned(self, run: Run) -> bool:
        """Say whether a run has had its last chance."""
        return run.crashes >= self._max_crashes

    def take(self, now: float) -> Run | None:
        """Return the next run to start, or None; it counts as running until `ended`."""
        self._warm_up(now)
        while not self._alone and len(self._taken) < self._in_flight:
            if self._lonely:
                # It waits until nothing runs, and nothing starts before it.
                if self._taken:
                    return None
                self._alone = True
                return self._took(self._lonely.popleft())
            run = self._candidate(now)
            if run is None:
                return None
            if self.is_condemned(run) or not run.crashes:
                return self._took(run)
            if run.crashes == self._max_crashes - 1:
                self._lonely.append(run)
            elif self._suspects < self._suspects_at_once:
                self._suspects += 1
                return self._took(run)
            else:
                self._aside.append(run)
        return None

    def ended(self, run: Run) -> None:
        """Take note that a run is not running any more, whatever follows."""
        if run not in self._taken:
            return
        self._taken.remove(run)
        if self._alone:
            self._alone = False
        elif run.crashes and not self.is_condemned(run):
            self._suspects -= 1

    def release(self, run: Run) -> None:
        """Let the next run of the same thread have its turn: this one is settled."""
        self._lanes.release(run.delivery.place, run.thread_id)
        if self._full:
            self._full = False
            self._lanes.let_go(_FULL)

    def drop(self, place: Place, gone: Callable[[Run], bool]) -> None:
        """Forget everything that waits of a partition that is no longer ours."""
        self._lanes.drop(place)
        self._held.drop(gone)
        self._aside = deque(run for run in self._aside if not gone(run))
        self._lonely = deque(run for run in self._lonely if not gone(run))

    def _took(self, run: Run) -> Run:
        self._taken.add(run)
        return run

    def _warm_up(self, now: float) -> None:
        for workflow_id in [name for name, until in self._cooling.items() if until <= now]:
            del self._cooling[workflow_id]
            self._lanes.let_go(workflow_id)

    def _candidate(self, now: float) -> Run | None:
        while True:
            # What was promised to go on comes before what is new.
            run = self._suspect() or self._held.take(now) or self._lanes.take(self._parker(now))
            if run is None:
                return None
            until = self._cools_until(run, now)
            if until is None:
                return run
            self._held.put(until, run)

    def _suspect(self) -> Run | None:
        return (
            self._aside.popleft()
            if self._aside and self._suspects < self._suspects_at_once
            else None
        )

    def _parker(self, now: float) -> Callable[[Run], str | None]:
        return lambda run: self._parks(run, now)

    def _parks(self, run: Run, now: float) -> str | None:
        """Return what to wait for, unless it must be told before that it comes too late."""
        if not run.delivery.starts.has_room(run.delivery.offset):
            self._full = True
            return _FULL
        until = self._cools_until(run, now)
        return None if until is None or until == run.deadline else run.event.workflow_id

    def _cools_until(self, run: Run, now: float) -> float | None:
        until = self._cooling.get(run.event.workflow_id, now)
        if run.deadline is not None:
            until = min(until, run.deadline)
        return until if until > now else None
