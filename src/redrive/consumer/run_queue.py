"""Whose turn it is: what is due, in order, not resting, not under suspicion, and has room.

Pure bookkeeping of the event loop; times are the caller's monotonic seconds. A run that was running
when a process died is suspected: few of them run at the same time, and one on its last chance runs
alone in its process, so that only the guilty one is condemned. [P5]

A run's own wait (`Run.due`) and the rests that others have caused hold it back alike; only the
rests are bounded by `longest_rest_s`.

What waits for its time, or for another one of its thread, keeps its bytes only while there are few
of them; then they are let go, and whoever takes it reads it again. What only waits for room keeps
them: they stop the fetching. At the limit of the memory hardly anything starts. [P11]

An event that claims to drive a letter waits, without a slot, until the letters have said whether it
does; only when its turn has come, since what went before it on its thread may be what ended that
redrive. [P13]

What is new of a graph or a workflow that has its share of the slots waits by itself, so that others
of its partition pass it; what goes on of it, such as a retry, is asked for again every half second.
[P7]
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection

from redrive.consumer.buffer import Buffer
from redrive.consumer.event_run import Run
from redrive.consumer.shares import Shares
from redrive.consumer.waits import Amount, Wait
from redrive.dead_letter.driven import ClaimedRedrive
from redrive.kafka.log import TopicPartition
from redrive.state.delay_queue import DelayQueue
from redrive.state.key_ordered_queue import KeyOrderedQueue
from redrive.state.rests import Rest, Rests

__all__ = ["RunQueue"]

# No rest's key: what waits for room among the offsets that a commit can speak of.
_FULL = "\0full"
_ROOM_AGAIN_S = 0.5


class RunQueue:
    """Runs that wait to start.

    Args:
        in_flight: How many may run at the same time.
        max_crashes: A run with so many is condemned: it is told so, and never runs.
        suspects_at_once: How many suspected runs may run beside each other.
        longest_rest_s: For how long a rate limit may hold back other runs, in seconds.
        buffer: Counts what they hold in memory; by default that has no limit.
        shares: How many of the slots graphs and workflows may have; by default all.
    """

    def __init__(
        self,
        *,
        in_flight: int,
        max_crashes: int,
        suspects_at_once: int,
        longest_rest_s: float = 120.0,
        buffer: Buffer | None = None,
        shares: Shares | None = None,
    ) -> None:
        self._buffer = buffer or Buffer(sys.maxsize)
        self._shares = shares or Shares(in_flight)
        # Shares of which more waits than may run, the one whose turn is next first.
        self._sharing: dict[str, None] = {}
        self._in_flight = in_flight
        self._max_crashes = max_crashes
        self._suspects_at_once = suspects_at_once
        self._ordered: KeyOrderedQueue[Run] = KeyOrderedQueue()
        self._held: DelayQueue[Run] = DelayQueue()
        self.rests = Rests(longest_s=longest_rest_s)
        """What rests now; to be ended by `end_rests` alone."""
        self._resting: set[Run] = set()
        # What rests has started nothing, and must hold no place among what may: it is parked, by
        # its rest and by its deadline, whichever comes first.
        self._parked: dict[str, dict[str, None]] = {}
        self._deadlines: DelayQueue[tuple[str, str]] = DelayQueue()
        self._aside: deque[Run] = deque()
        self._lonely: deque[Run] = deque()
        self._taken: set[Run] = set()
        self._suspects = 0
        self._alone = False
        self._full = False
        # Workflows that have much in memory already, and of which more is parked.
        self._crowded: set[str] = set()
        self._cramped: set[Run] = set()
        # Their turn has come, and it is not known whether they are the redrives that they claim.
        self._to_ask: list[Run] = []
        self._started = 0

    def put(self, run: Run) -> None:
        """Let a new run wait for its turn, behind those of its thread that came before."""
        if not self._ordered.put(run.polled.tp, run.lane or run.thread_id, run):
            _block(run)

    def unjudged(self) -> dict[Run, ClaimedRedrive]:
        """Return, each once, those whose turn has come and that claim to be redrives."""
        found = {run: run.claim for run in self._to_ask if run.claim is not None}
        self._to_ask.clear()
        return found

    def judged(self, runs: Collection[Run]) -> None:
        """Let runs have their turn of which it is known now whether they are redrives."""
        # Each goes before what is there: the first one last.
        for run in sorted(runs, key=lambda run: run.polled.offset, reverse=True):
            self._ordered.let_go(_claim_of(run), of=run.polled.tp)

    def hold(self, run: Run, *, until: float) -> None:
        """Let a run wait for its next attempt."""
        _block(run)
        self._held.put(until, run)

    def end_rests(self, now: float) -> list[Rest]:
        """Let go on what waited for rests that are over, and return these, each once."""
        ended = self.rests.end(now)
        opened = self.rests.open(now)
        for rest in (*ended, *opened):
            # Each goes before what is there: the first one last.
            for group in reversed(self._parked.pop(rest.key, {})):
                self._ordered.let_go(group)
        if ended or opened:
            self._deadlines.drop(lambda late: late[0] not in self._parked)
        return ended

    def next_due(self) -> float | None:
        """Return when something will be due, or None when nothing waits for its time."""
        delayed = (self.rests.next_change, self._held.next_due, self._deadlines.next_due)
        return min((due for due in delayed if due is not None), default=None)

    def rests_until(self, workflow_id: str) -> float | None:
        """Return until when nothing of a workflow is to start; may be called from any thread."""
        rest = self.rests.of(workflow_id)
        return None if rest is None else rest.until

    @property
    def resting(self) -> int:
        """How many runs were to start, and wait for a rest; may be read from any thread."""
        return len(self._resting)

    def waiting(self) -> dict[Wait, Amount]:
        """Return what waits, and for what."""
        ready, barred = self._ordered.ready
        shared = sum(self._ordered.parked(_parked_of(share)) for share in self._sharing)
        crowded = sum(self._ordered.parked(_crowd_of(workflow)) for workflow in self._crowded)
        # What is ready and has a slot is taken at once, unless one runs alone, or is to.
        is_full = len(self._taken) >= self._in_flight
        alone = 0 if is_full else len(self._lonely) + (ready if self._alone or self._lonely else 0)
        return {
            # Where slots are free again and again, nothing stands still.
            Wait.SLOT: Amount((ready if is_full else 0) + shared, self._started),
            Wait.THREAD: Amount(self._ordered.behind),
            Wait.RETRY: Amount(len(self._held)),
            Wait.REST: Amount(self.resting),
            Wait.MEMORY: Amount(crowded + len(self._cramped)),
            Wait.WINDOW: Amount(barred + self._ordered.parked(_FULL)),
            Wait.SUSPICION: Amount(len(self._aside) + alone, self._started),
        }

    @property
    def next_held(self) -> float | None:
        """When the first of them is due; may be read from any thread."""
        return self._held.next_due

    def is_condemned(self, run: Run) -> bool:
        """Say whether a run has had its last chance."""
        return run.crashes >= self._max_crashes

    def take(self, now: float) -> Run | None:
        """Return the next run to start, or None; it counts as running until `ended`."""
        self._let_go_on(now)
        while not self._alone and len(self._taken) < self._in_flight:
            if self._lonely:
                # It waits until nothing runs, and nothing starts before it.
                if self._taken:
                    return None
                self._alone = True
                return self._took(self._lonely.popleft(), now)
            run = self._candidate(now)
            if run is None:
                return None
            if self.is_condemned(run) or not run.crashes:
                return self._took(run, now)
            if run.crashes == self._max_crashes - 1:
                self._lonely.append(run)
            elif self._suspects < self._suspects_at_once:
                self._suspects += 1
                return self._took(run, now)
            else:
                self._aside.append(run)
        return None

    def ended(self, run: Run) -> None:
        """Take note that a run is not running any more, whatever follows."""
        if run not in self._taken:
            return
        self._taken.discard(run)
        self._shares.end(run.workflow_id)
        if self._alone:
            self._alone = False
        elif run.crashes and not self.is_condemned(run):
            self._suspects -= 1

    def release(self, run: Run) -> None:
        """Let the next run of the same thread have its turn: this one is settled."""
        self._ordered.release(run.polled.tp, run.lane or run.thread_id)
        if self._full:
            self._full = False
            self._ordered.let_go(_FULL)

    def drop(self, tp: TopicPartition, gone: Callable[[Run], bool]) -> None:
        """Forget everything that waits of a partition that is no longer ours."""
        self._ordered.drop(tp)
        self._held.drop(gone)
        self._resting = {run for run in self._resting if not gone(run)}
        self._cramped = {run for run in self._cramped if not gone(run)}
        self._to_ask = [run for run in self._to_ask if not gone(run)]
        self._aside = deque(run for run in self._aside if not gone(run))
        self._lonely = deque(run for run in self._lonely if not gone(run))

    def _let_go_on(self, now: float) -> None:
        """Let what was parked have its turn again: its rest is over, it is late, it has room."""
        self.end_rests(now)
        while (late := self._deadlines.take(now)) is not None:
            key, group = late
            del self._parked[key][group]
            self._ordered.let_go(group)
        for workflow in [w for w in self._crowded if not self._buffer.is_crowded(w)]:
            self._crowded.discard(workflow)
            self._ordered.let_go(_crowd_of(workflow))

    def _took(self, run: Run, now: float) -> Run:
        self._taken.add(run)
        self._shares.start(run.workflow_id)
        self._started += 1
        run.polled.share.start(run.polled.offset, run.workflow_id)
        self._resting.discard(run)
        self._cramped.discard(run)
        # One that is only told that it comes too late learns nothing of the service.
        if not (self.is_condemned(run) or (run.deadline is not None and run.deadline <= now)):
            self.rests.started(run.workflow_id)
        return run

    def _candidate(self, now: float) -> Run | None:
        while True:
            # What was promised to go on comes before what is new.
            parks = self._parker(now)
            run = (
                self._suspect()
                or self._held.take(now)
                or self._of_shares(parks)
                or self._ordered.take(parks)
            )
            if run is None:
                return None
            until = self._waits_until(run, now)
            if until is None:
                return run
            _block(run)
            self._held.put(until, run)

    def _suspect(self) -> Run | None:
        return (
            self._aside.popleft()
            if self._aside and self._suspects < self._suspects_at_once
            else None
        )

    def _of_shares(self, parks: Callable[[Run], str | None]) -> Run | None:
        """Return the next that waited for a share; those that wait for shares take turns."""
        for share in list(self._sharing):
            if not self._shares.has_room(share):
                continue
            run = self._ordered.take_parked(_parked_of(share), parks)
            del self._sharing[share]
            if self._ordered.parked(_parked_of(share)):
                self._sharing[share] = None
            if run is not None:
                return run
        return None

    def _parker(self, now: float) -> Callable[[Run], str | None]:
        return lambda run: self._parks(run, now)

    def _parks(self, run: Run, now: float) -> str | None:
        """Return what to wait for, unless it must be told before that it comes too late."""
        if run.claim is not None:
            # Before all else: what it says of itself decides how it runs, and how it ends.
            self._to_ask.append(run)
            _block(run)
            return _claim_of(run)
        if not run.polled.starts.has_room(run.polled.offset):
            self._full = True
            return _FULL
        if self._buffer.is_crowded(run.workflow_id):
            self._crowded.add(run.workflow_id)
            return _crowd_of(run.workflow_id)
        rest = self.rests.holds(run.workflow_id)
        if run.deadline is not None and run.deadline <= now:
            return None
        if rest is None:
            return self._shared(run)
        self._resting.add(run)
        _block(run)
        group, groups = f"{rest.key} {run.deadline}", self._parked.setdefault(rest.key, {})
        if group not in groups and run.deadline is not None:
            self._deadlines.put(run.deadline, (rest.key, group))
        groups[group] = None
        return group

    def _lacks(self, run: Run) -> str | None:
        """Return the share that it waits for; one that only ends needs none."""
        return None if self.is_condemned(run) else self._shares.lacking(run.workflow_id)

    def _shared(self, run: Run) -> str | None:
        share = self._lacks(run)
        if share is None:
            return None
        self._sharing.setdefault(share)
        # Others must be fetched that lie behind it.
        _block(run)
        return _parked_of(share)

    def _waits_until(self, run: Run, now: float) -> float | None:
        """Return when it may start, or comes too late; None when it may start now."""
        until = run.due or now
        rest = self.rests.holds(run.workflow_id)
        if rest is None:
            self._resting.discard(run)
        else:
            until = max(until, rest.until)
            self._resting.add(run)
        if self._buffer.is_crowded(run.workflow_id):
            until = max(until, now + _ROOM_AGAIN_S)
            self._cramped.add(run)
        else:
            self._cramped.discard(run)
        if until <= now and self._lacks(run) is not None:
            until = now + _ROOM_AGAIN_S
        if run.deadline is not None:
            until = min(until, run.deadline)
        return until if until > now else None


def _block(run: Run) -> None:
    """Let a run wait for its time: without its bytes, when too many wait so."""
    if not (run.is_let_go or run.polled.share.block(run.polled.offset)):
        run.let_go()


def _parked_of(share: str) -> str:
    return f"\0share {share}"


def _claim_of(run: Run) -> str:
    return f"\0claim {run.polled.offset}"


def _crowd_of(workflow: str) -> str:
    return f"\0crowd {workflow}"
