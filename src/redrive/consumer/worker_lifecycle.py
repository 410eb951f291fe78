"""The living worker: starts its parts in order, joins the two threads and the loop, stops in time.

It is built in `redrive.wiring`. Stopping is: nothing new starts, runs stop at their next
checkpoint, what has ended is settled, the group is left; all within one deadline. [P12]
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import structlog

from redrive.clock import Clock
from redrive.consumer.dispatcher import Dispatcher
from redrive.consumer.health import Phase
from redrive.consumer.letters_reader import Judged
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.partitions import Partitions
from redrive.consumer.progress_watch import Moment, ProgressWatch, due
from redrive.consumer.settle import Settler
from redrive.consumer.sides import Downstream
from redrive.consumer.sweeping import Sweeping
from redrive.consumer.waits import Amount, Wait, Waits
from redrive.errors import KafkaLostError, RedriveError, StandstillError, StuckNodeError
from redrive.graphs.checkpoint_store import Checkpoints
from redrive.kafka.coordinator_monitor import CoordinatorMonitor
from redrive.kafka.log import PollThread, Pulse, TopicPartition
from redrive.kafka.rereading import Found
from redrive.kafka.settle_thread import SettleThread
from redrive.kafka.topic_ids import TopicIds
from redrive.state.commit_metadata import CommitMetadata
from redrive.telemetry.redactor import BUILT_IN

__all__ = ["Worker", "WorkerCallbacks", "WorkerComponents", "waiting_in"]

log = structlog.get_logger("redrive.consumer")

_LEAVE_S = 5.0
_LOOK_S = 0.01
_COUNT_EVERY_S = 5.0
_LOOK_EVERY_S = 1.0
_MOST_LEFT_BEHIND = 30
"""So many calls may hang in the Kafka client: each holds some five threads and a dozen sockets."""


@dataclass(frozen=True, slots=True)
class WorkerCallbacks:
    """What the parts tell their worker.

    Args:
        downstream: The event loop's side of the settler.
        ended: The poll thread has ended; called on it, with the error that ended it, or None.
        stuck: A node does not end; called on the loop.
        read_again: Events were read again whose bytes had been let go; for any thread.
        judged: The letters have said which events drive them; for any thread.
    """

    downstream: Downstream
    ended: Callable[[BaseException | None], None]
    stuck: Callable[[StuckNodeError], None]
    read_again: Callable[[Found], None]
    judged: Callable[[Judged], None]


@dataclass(frozen=True, slots=True)
class WorkerComponents:
    """What a worker consists of."""

    dispatcher: Dispatcher
    settler: Settler
    settling: SettleThread
    polling: PollThread
    checkpoints: Checkpoints
    sweeping: Sweeping
    partitions: Partitions
    pulse: Pulse
    """Moved by the poll thread."""
    link: CoordinatorMonitor
    topics: TopicIds
    """What the broker says of the topics that are consumed."""


class Worker:
    """One worker process's work, from joining the group to leaving it.

    Args:
        build: Builds the parts around the loop's side; called once, on the loop.
        startup_s: How long the broker may take to answer, in seconds.
        grace_s: How long stopping may take, in seconds.
        standstill_s: How long what should move may stand still, in seconds.
        rebalance_s: How long the group may wait for members that do not answer, in seconds.
        clock: For deadlines.
    """

    def __init__(
        self,
        build: Callable[[WorkerCallbacks], WorkerComponents],
        *,
        startup_s: float,
        grace_s: float,
        standstill_s: float,
        rebalance_s: float,
        clock: Clock,
    ) -> None:
        self._build = build
        self._startup_s = startup_s
        self._grace_s = grace_s
        self._standstill_s = standstill_s
        self._rebalance_s = rebalance_s
        self._clock = clock
        self._parts: WorkerComponents | None = None
        self._life: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self.phase = Phase.STARTING
        """How far it has come; may be read from any thread."""
        self._worn_out: RedriveError | None = None
        self.progress = ProgressWatch(limit_s=standstill_s)
        """Whether what should move does; may be read from any thread."""
        self.waits = Waits(clock)
        """What is waited for; may be read from any thread."""

    @property
    def endings(self) -> Counter[Ending]:
        """How many events ended in which way, durably, since the start."""
        return Counter() if self._parts is None else Counter(self._parts.dispatcher.endings)

    @property
    def parts(self) -> WorkerComponents | None:
        """What it consists of, once it was started."""
        return self._parts

    async def start(self) -> None:
        """Open everything and join the group; asked to stop meanwhile, end without having joined.

        Raises:
            SettingsError: Something that the settings name cannot work.
            KafkaUnavailableError: The broker did not answer in time.
        """
        started = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(started))
        self._life.add_done_callback(self._has_ended)
        try:
            await asyncio.wait((started, self._life), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.request_stop()
            await asyncio.wait((self._life,))
            raise
        if not started.done():
            await self._life

    async def wait(self) -> None:
        """Return when the worker has stopped.

        Raises:
            FencedError: Another worker with the same identity took over.
            KafkaLostError: The consumer cannot go on.
            StuckNodeError: A node did not end; all others were drained.
        """
        if self._life is not None:
            await asyncio.shield(self._life)

    def request_stop(self) -> None:
        """Begin to stop; `wait` returns once that is done."""
        self._stop.set()

    async def stop(self) -> None:
        """Stop, and return when that is done."""
        self.request_stop()
        await self.wait()

    def _has_ended(self, _: asyncio.Task[None]) -> None:
        self.phase = Phase.STOPPED

    def _stuck(self, error: StuckNodeError) -> None:
        """Stop, so that this process can be replaced: nothing in it can end the node. [P8]."""
        if self._worn_out is None:
            log.error("worker.node_stuck", error=BUILT_IN.mask(str(error)))
            self._worn_out = error
        self.request_stop()

    async def _count_left_behind(self, settling: SettleThread) -> None:
        """Stop, so that this process can be replaced, once too many calls hang in it for ever."""
        while (left := settling.left_behind) < _MOST_LEFT_BEHIND:
            await self._clock.sleep(_COUNT_EVERY_S)
        log.error("worker.calls_left_behind", calls=left)
        self._worn_out = KafkaLostError(
            f"{left} calls of the Kafka client have not returned, and hold threads and sockets: "
            "start the worker again"
        )
        self.request_stop()

    async def _watch_progress(self, parts: WorkerComponents) -> None:
        """Stop, so that this process can be replaced, once nothing moves in it. [P1]."""
        late, looked = None, self._clock.monotonic()
        while late is None:
            await self._clock.sleep(_LOOK_EVERY_S)
            now = self._clock.monotonic()
            passed_s, looked = min(now - looked, _LOOK_EVERY_S * 2), now
            found = due(_moment(parts), rebalance_s=self._rebalance_s)
            late = self.progress.look(found, passed_s=passed_s)
        log.error("worker.stands_still", waits_for=late.waits_for.value, what=late.what)
        self._worn_out = StandstillError(late.what, limit_s=self._standstill_s + late.beyond_s)
        self.request_stop()

    async def _look_at_waits(self, parts: WorkerComponents) -> None:
        while True:
            await self._clock.sleep(_LOOK_EVERY_S)
            self.waits.look(waiting_in(parts))

    async def _live(self, started: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def poll_ended(error: BaseException | None) -> None:
            self._failure = error
            loop.call_soon_threadsafe(ended.set)

        downstream = _ToLoop(loop)
        parts = self._build(
            WorkerCallbacks(
                downstream, poll_ended, self._stuck, downstream.read_again, downstream.judged
            )
        )
        downstream.dispatcher, self._parts = parts.dispatcher, parts
        async with parts.checkpoints:
            try:
                if await self._opened(parts.settling):
                    parts.polling.start()
                    log.info("worker.ready")
                    self.phase = Phase.WORKING
                    started.set_result(None)
                    await self._work(parts, ended)
            finally:
                parts.polling.stop()
                # Leaving the group waits for the broker; a broker that is away is not waited for.
                # In a thread of its own: nodes that do not end may have taken all of the loop's.
                await _in_thread(partial(parts.polling.join, _LEAVE_S))
                await _in_thread(partial(parts.settling.close, timeout_s=1.0))
        if self._failure is not None:
            raise self._failure
        if self._worn_out is not None:
            raise self._worn_out
        log.info(
            "worker.stopped", **{e.value: n for e, n in sorted(parts.dispatcher.endings.items())}
        )

    async def _opened(self, settling: SettleThread) -> bool:
        """Open the first producer; say whether nobody asked to stop meanwhile. [P12]."""
        opening = asyncio.create_task(
            asyncio.to_thread(settling.start, timeout_s=self._startup_s), name="open the producer"
        )
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((opening, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not self._stop.is_set():
            await opening
            return True
        # Its thread ends once the settle thread is closed; what it came to concerns nobody.
        opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return False

    async def _work(self, parts: WorkerComponents, ended: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            waking = parts.dispatcher.begin(tasks)
            sweeping = tasks.create_task(parts.sweeping.run())
            counting = tasks.create_task(self._count_left_behind(parts.settling))
            watching = tasks.create_task(self._watch_progress(parts))
            looking = tasks.create_task(self._look_at_waits(parts))
            stop = tasks.create_task(self._stop.wait())
            end = tasks.create_task(ended.wait())
            await asyncio.wait((stop, end), return_when=asyncio.FIRST_COMPLETED)
            self.phase = Phase.DRAINING
            deadline = self._clock.monotonic() + self._grace_s
            waking.cancel()
            sweeping.cancel()
            counting.cancel()
            watching.cancel()
            log.info("worker.draining", running=parts.dispatcher.running)
            # With the poll thread gone nothing can be settled: runs are cut at once.
            grace_s = 0.0 if ended.is_set() else self._grace_s - _LEAVE_S
            cut = await parts.dispatcher.drain(timeout_s=grace_s)
            # What is left was cut by us, not by a death. [P5]
            parts.settler.release()
            while not (parts.settler.idle or ended.is_set()):
                if self._clock.monotonic() >= deadline - 1.0:
                    log.warning("worker.left_unsettled")
                    break
                await self._clock.sleep(_LOOK_S)
            log.info("worker.drained", cut=cut)
            looking.cancel()
            stop.cancel()
            end.cancel()


def _moment(parts: WorkerComponents) -> Moment:
    settler, partitions = parts.settler, parts.partitions
    return Moment(
        polled=parts.pulse.last,
        away=parts.link.problem,
        can_settle=parts.settling.is_open,
        unsettled=settler.owes,
        settled=settler.moves,
        is_member=settler.is_member,
        expected=partitions.expected,
        opened=partitions.opened,
    )


def waiting_in(parts: WorkerComponents) -> dict[Wait, Amount]:
    """Return what waits in a worker now, and for what."""
    status, absent = parts.partitions.status, parts.topics.absent
    outside = sum(seen.outside for seen in status.partitions)
    leaderless = sum(seen.tp in absent.leaders for seen in status.partitions)
    found = parts.dispatcher.waiting()
    found[Wait.WINDOW] = Amount(found[Wait.WINDOW].count + outside)
    return {
        **found,
        **parts.settler.counted(),
        Wait.CHECKPOINTS: Amount(parts.checkpoints.waiting),
        Wait.OFFSETS: Amount(parts.partitions.expected),
        Wait.LOG_CHECK: Amount(status.unchecked),
        Wait.REBALANCE: Amount(status.suspended),
        Wait.PAUSED: Amount(status.paused),
        Wait.LEADER: Amount(leaderless),
        Wait.TOPIC: Amount(len(absent.topics)),
        Wait.GROUP: Amount(not parts.settler.is_member),
        Wait.COORDINATOR: Amount(parts.link.problem is not None),
        Wait.PRODUCER: Amount(not parts.settling.is_open),
    }


async def _in_thread(call: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="redrive-stop") as thread:
        await asyncio.get_running_loop().run_in_executor(thread, call)


class _ToLoop:
    """The poll thread's way to the intake: one wake-up of the loop a batch."""

    dispatcher: Dispatcher

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def deliver(self, polled_records: Sequence[PolledRecord]) -> None:
        self._call(self.dispatcher.accept, polled_records)

    def recall(self, all_metadata: Sequence[CommitMetadata]) -> None:
        self._call(self.dispatcher.recall, all_metadata)

    def suspend(self, tps: Mapping[TopicPartition, int]) -> None:
        self._call(self.dispatcher.suspend, tps)

    def resume(self, tps: Collection[TopicPartition]) -> None:
        self._call(self.dispatcher.resume, tps)

    def revoke(self, tps: Mapping[TopicPartition, int]) -> None:
        self._call(self.dispatcher.revoke, tps)

    def read_again(self, found: Found) -> None:
        self._call(self.dispatcher.read_again, found)

    def judged(self, found: Judged) -> None:
        self._call(self.dispatcher.judged, found)

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        self._call(self.dispatcher.settled, outcomes)

    def _call(self, function: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:
            # The loop has closed: the worker is gone, and what it held is settled by the next one.
            log.debug("worker.loop_closed")
