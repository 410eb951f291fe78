"""From delivered records to running attempts: reads events, keeps their order, fills the slots.

Belongs to the event loop. What it holds of a partition ends when the partition goes; what a run
came to goes to the settler, and its thread is free for the next event once that is durable. [P9]
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass

import structlog

from redrive.clock import Clock
from redrive.consumer.answers import Answers
from redrive.consumer.outcome import Delivery, Ending, Outcome
from redrive.consumer.run import Run, thread_of
from redrive.consumer.runner import Again, Control, Left, Runner
from redrive.errors import RecordError
from redrive.events import TRIGGERED, EventHeaders, WorkflowEvent
from redrive.graphs.lease import Lease
from redrive.kafka.log import Place
from redrive.state.dues import Dues
from redrive.state.lanes import Lanes

__all__ = ["Intake"]

log = structlog.get_logger("redrive.consumer")


@dataclass(slots=True)
class _Live:
    run: Run
    lease: Lease
    control: Control | None
    task: asyncio.Task[None] | None = None


class Intake:
    """Takes events in and keeps at most `in_flight` of them running.

    Args:
        runner: Executes attempts.
        answers: Builds the outcome of what never runs.
        finish: Takes an outcome to be settled; safe from this thread.
        new_lease: Makes the lease of one attempt.
        new_control: Makes what asks one run to stop at its next checkpoint, or None.
        keep: Saves a finished thread from being swept.
        in_flight: Attempts at the same time.
        clock: For deadlines and held retries.
    """

    def __init__(
        self,
        runner: Runner,
        answers: Answers,
        *,
        finish: Callable[[Outcome], None],
        new_lease: Callable[[], Lease],
        new_control: Callable[[], Control | None],
        keep: Callable[[str], Coroutine[None, None, None]],
        in_flight: int,
        clock: Clock,
    ) -> None:
        self.endings: Counter[Ending] = Counter()
        self._runner = runner
        self._answers = answers
        self._finish = finish
        self._new_lease = new_lease
        self._new_control = new_control
        self._keep = keep
        self._in_flight = in_flight
        self._clock = clock
        self._lanes: Lanes[Run] = Lanes()
        self._held: Dues[Run] = Dues()
        self._live: dict[Run, _Live] = {}
        self._open: dict[tuple[Place, int], Run] = {}
        self._gone: dict[Place, int] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()
        self._draining = False

    @property
    def running(self) -> int:
        """How many attempts are running."""
        return len(self._live)

    def begin(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Run attempts as tasks of this group; the task returned wakes held retries."""
        self._tasks = tasks
        return tasks.create_task(self._wake_held())

    def accept(self, deliveries: Iterable[Delivery]) -> None:
        """Take records in: run them when their turn comes, or settle them as they are."""
        for delivery in deliveries:
            if delivery.epoch > self._gone.get(delivery.place, 0):
                self._accept(delivery)
        self._fill()

    def withdraw(self, places: Mapping[Place, int]) -> None:
        """End everything of partitions that have gone; nothing of it may be written any more."""
        self._gone.update(places)
        for place in places:
            self._lanes.drop(place)
        self._held.drop(self._is_gone)
        self._open = {at: run for at, run in self._open.items() if not self._is_gone(run)}
        for live in list(self._live.values()):
            if self._is_gone(live.run):
                live.lease.end("its partition has gone to another worker")
                if live.task is not None:
                    live.task.cancel()
        self._fill()

    def settled(self, outcomes: Iterable[Outcome]) -> None:
        """Count endings that are durable, and let the next event of each thread start."""
        for outcome in outcomes:
            self.endings[outcome.ending] += 1
            run = self._open.pop((outcome.delivery.place, outcome.delivery.offset), None)
            if run is None:
                continue
            self._lanes.release(outcome.delivery.place, run.thread_id)
            if run.finished and outcome.ending is Ending.DEAD_LETTERED and self._tasks is not None:
                # Its result could not be published: a redrive will want what the thread holds.
                self._tasks.create_task(self._keep(run.thread_id))
        self._fill()

    async def drain(self, *, timeout_s: float) -> int:
        """Start nothing more, stop runs at their next checkpoint; return how many had to be cut."""
        self._draining = True
        tasks = [live.task for live in self._live.values() if live.task is not None]
        for live in self._live.values():
            if live.control is not None:
                live.control.request_drain()
        if not tasks:
            return 0
        _, late = await asyncio.wait(tasks, timeout=max(timeout_s, 0.0))
        for live in self._live.values():
            if live.task in late:
                live.lease.end("the worker had to stop")
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        return len(late)

    def _accept(self, delivery: Delivery) -> None:
        record = delivery.record
        try:
            headers = EventHeaders.read(record.headers)
            event = WorkflowEvent.from_bytes(record.value)
        except RecordError as error:
            log.warning(
                "event.unreadable",
                topic=record.place.topic,
                partition=record.place.partition,
                offset=record.offset,
                error=str(error),
            )
            self._finish(self._answers.unreadable(delivery, error))
            return
        if event.event_type != TRIGGERED:
            self._finish(self._answers.skipped(delivery))
            return
        run = Run(
            delivery=delivery,
            event=event,
            headers=headers,
            thread_id=thread_of(event, headers, record.place.partition),
            deadline=self._deadline(headers),
        )
        self._open[record.place, record.offset] = run
        self._lanes.put(record.place, run.thread_id, run)

    def _deadline(self, headers: EventHeaders) -> float | None:
        if headers.deadline is None:
            return None
        left_s = headers.deadline / 1000 - self._clock.now().timestamp()
        return self._clock.monotonic() + left_s

    def _fill(self) -> None:
        if self._tasks is None or self._draining:
            return
        while len(self._live) < self._in_flight:
            # What was promised to go on comes before what is new.
            run = self._held.take(self._clock.monotonic()) or self._lanes.take()
            if run is None:
                return
            live = _Live(run, self._new_lease(), self._new_control())
            self._live[run] = live
            live.task = self._tasks.create_task(self._attempt(live))

    async def _attempt(self, live: _Live) -> None:
        run = live.run
        try:
            step = await self._runner.attempt(run, lease=live.lease, control=live.control)
        except asyncio.CancelledError:
            if not (self._is_gone(run) or self._draining):
                raise
            return
        finally:
            live.lease.end()
            del self._live[run]
            self._changed.set()
        if not self._is_gone(run):
            self._follow(run, step)
        self._fill()

    def _follow(self, run: Run, step: Outcome | Again | Left) -> None:
        match step:
            case Outcome():
                self._finish(step)
            case Again(after_s):
                self._held.put(self._clock.monotonic() + after_s, run)
                self._changed.set()
            case Left():
                pass

    async def _wake_held(self) -> None:
        while not self._draining:
            self._changed.clear()
            due = self._held.next_due
            if due is None or len(self._live) >= self._in_flight:
                await self._changed.wait()
                continue
            wait_s = due - self._clock.monotonic()
            if wait_s > 0:
                await self._sleep_or_change(wait_s)
            self._fill()

    async def _sleep_or_change(self, wait_s: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(wait_s))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((sleeping, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            changed.cancel()

    def _is_gone(self, run: Run) -> bool:
        return run.delivery.epoch <= self._gone.get(run.delivery.place, 0)
