"""A worker as another thread sees it: its health, and the figures that are looked up when asked.

It reads single numbers, and snapshots that are replaced as a whole. No lock is taken that the
worker would wait for, and no Kafka client is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from redrive.clock import Clock
from redrive.consumer.health import Facts, Phase
from redrive.consumer.loop_pulse import LoopPulse
from redrive.consumer.worker_lifecycle import Worker, WorkerComponents
from redrive.telemetry import metrics
from redrive.telemetry.instruments import Sample

__all__ = ["Lookup", "WorkerLimits"]


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What a worker may take on, and how long a thread may stand still."""

    in_flight: int
    buffer_bytes: int
    stall_s: float


class Lookup:
    """Looks at one worker; from any thread.

    Args:
        loop: Beats on its event loop.
        limits: What it may take on.
        clock: Its clock.
    """

    def __init__(self, loop: LoopPulse, *, limits: WorkerLimits, clock: Clock) -> None:
        self._loop = loop
        self._limits = limits
        self._clock = clock
        self._worker: Worker | None = None

    def watch(self, worker: Worker) -> None:
        """Look at this worker from now on."""
        self._worker = worker

    def facts(self) -> Facts:
        """Return what tells whether it is alive, and ready."""
        worker = self._worker
        parts = None if worker is None else worker.parts
        still_s = self._loop.still_s
        if worker is None or parts is None:
            return Facts(Phase.STARTING if worker is None else worker.phase, still_s)
        return Facts(
            worker.phase,
            still_s,
            poll_still_s=parts.pulse.gap_s() if parts.polling.is_running else None,
            settling=parts.settling.trouble(for_s=self._limits.stall_s),
            is_member=parts.settler.is_member,
            expected=parts.partitions.expected,
            away=parts.link.problem,
            can_settle=parts.settling.is_open,
            stands_still=worker.progress.still,
        )

    def samples(self) -> Iterator[Sample]:
        """Return the figures of now."""
        parts = None if self._worker is None else self._worker.parts
        still: dict[tuple[str, ...], float] = {("loop",): self._loop.still_s}
        if parts is not None and parts.polling.is_running:
            still["poll",] = parts.pulse.gap_s()
        yield Sample(metrics.STILL, still)
        if self._worker is not None:
            still_s = self._worker.progress.still_s
            yield Sample(metrics.STANDSTILL, {(name.value,): s for name, s in still_s.items()})
            waits = self._worker.waits
            yield Sample(metrics.WAITING, {(w.value,): n for w, n in waits.counts.items()})
            yield Sample(metrics.WAITING_FOR, {(w.value,): s for w, s in waits.lasting_s.items()})
        yield Sample(metrics.IN_FLIGHT_LIMIT, {(): self._limits.in_flight})
        yield Sample(metrics.BUFFER_LIMIT, {(): self._limits.buffer_bytes})
        if parts is not None:
            yield from self._of_runs(parts)
            yield from self._of_partitions(parts)

    def _of_runs(self, parts: WorkerComponents) -> Iterator[Sample]:
        run_queue, due = parts.dispatcher.run_queue, parts.dispatcher.run_queue.next_held
        yield Sample(metrics.IN_FLIGHT, {(): parts.dispatcher.running})
        if due is not None:
            yield Sample(metrics.NEXT_DUE, {(): due - self._clock.monotonic()})
        yield Sample(metrics.RESTS, {(): len(run_queue.rests)})
        yield Sample(metrics.DISBELIEVED, {(): parts.dispatcher.disbelieved})
        yield Sample(metrics.SETTLING, {(): parts.settler.waiting})
        yield from self._of_obstacles(parts)

    def _of_obstacles(self, parts: WorkerComponents) -> Iterator[Sample]:
        lasting: dict[tuple[str, ...], float] = {}
        now = self._clock.monotonic()
        for seen in parts.settler.apart.status:
            number = seen.obstacle.partition
            labels = (seen.obstacle.topic, "" if number is None else str(number), seen.cause.value)
            lasting[labels] = max(now - seen.since, lasting.get(labels, 0.0))
        yield Sample(metrics.APART_FOR, lasting)
        yield Sample(metrics.BATCH_LIMIT, {(): parts.settler.limits.max_bytes})

    def _of_partitions(self, parts: WorkerComponents) -> Iterator[Sample]:
        status, now = parts.partitions.status, self._clock.monotonic()
        yield Sample(metrics.BUFFERED, {(): status.events})
        yield Sample(metrics.BUFFERED_BYTES, {(): status.size_bytes})
        yield Sample(metrics.LET_GO, {(): status.let_go})
        yield Sample(metrics.PARTITIONS, {(): len(status.partitions)})
        window: dict[tuple[str, ...], float] = {}
        unfinished: dict[tuple[str, ...], float] = {}
        stuck: dict[tuple[str, ...], float] = {}
        for seen in status.partitions:
            labels = (seen.tp.topic, str(seen.tp.partition))
            window[labels] = seen.window_used
            unfinished[labels] = seen.unfinished_s(now)
            moved = None if seen.lowest is None else parts.dispatcher.moved(seen.tp, seen.lowest)
            stuck[labels] = seen.stuck_s(now, moved=moved)
        yield Sample(metrics.WINDOW_USED, window)
        yield Sample(metrics.UNFINISHED, unfinished)
        yield Sample(metrics.STUCK, stuck)
