"""From delivered records to running attempts: reads events, fills the slots, follows what comes.

Belongs to the event loop. What it holds of a partition ends when the partition goes; what a run
came to goes to the settler, and its thread is free for the next event once that is durable. [P9]
Nothing starts that a death would not be counted for. [P5]
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from redrive.clock import Clock
from redrive.consumer.admission import Admission
from redrive.consumer.event_run import Run
from redrive.consumer.letters_reader import Judged, LettersReader
from redrive.consumer.lingering import LingeringWatch
from redrive.consumer.observing import Observers
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.consumer.resting import Resting
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.runner import Again, Control, Left, NextStep, Runner
from redrive.consumer.waits import Amount, Wait
from redrive.dead_letter.driven import ClaimedRedrive
from redrive.errors import RecordError
from redrive.events import (
    TRIGGERED,
    EventHeaders,
    WorkflowEvent,
    readable_event_id,
    thread_scope,
)
from redrive.graphs.lease import Lease, LeaseState
from redrive.graphs.retention import Mark
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.rereading import Found, RecordReader
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.state.commit_metadata import CommitMetadata, OffsetEntry, StoredRest
from redrive.telemetry.detail import is_detailed
from redrive.telemetry.repeats import REPEATS
from redrive.thread_names import own_thread

__all__ = ["Dispatcher"]

log = structlog.get_logger("redrive.consumer")

_LEFT_AGAIN_S = 0.2
"""After so long a run begins again that was left by us: what ended it may not be told here yet."""


@dataclass(slots=True)
class _Live:
    run: Run
    lease: Lease
    control: Control | None
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class _Untried:
    """An event that never runs, and claims to drive a letter; `end` makes its outcome."""

    polled: PolledRecord
    headers: EventHeaders
    end: Callable[[EventHeaders], Outcome]


class Dispatcher:
    """Takes events in and keeps as many of them running as may.

    Args:
        runner: Executes attempts.
        outcomes: Builds the outcome of what never runs.
        run_queue: Says what may start next.
        lingering_works: Watches what goes on of attempts that were ended.
        finish: Takes an outcome to be settled; safe from this thread.
        new_lease: Makes the lease of one attempt at a delivery.
        mark: Notes what the threads of runs that did not finish are needed for.
        clock: For deadlines and held retries.
        observers: Told of attempts that ended, and of endings that are durable.
        remember: Takes the rests that go on, to be noted with commits; safe from this thread.
        reader: Reads events again whose bytes were let go; answers by `read_again`.
        admission: Says which events may run; by default all.
        thread_scope: `threads.scope`: the field that says whose threads an event names.
        letters: Asks the letters whether events drive them, as they say; answers by `judged`.
            Without it, none does.
    """

    def __init__(  # noqa: PLR0913 - its parts, each by its name
        self,
        runner: Runner,
        outcomes: OutcomeBuilder,
        run_queue: RunQueue,
        lingering_works: LingeringWatch,
        *,
        finish: Callable[[Outcome], None],
        new_lease: Callable[[PolledRecord], Lease],
        mark: Callable[[Collection[str], Mark], Coroutine[None, None, None]],
        clock: Clock,
        observers: Observers | None = None,
        remember: Callable[[Sequence[StoredRest]], None] = lambda _: None,
        reader: RecordReader | None = None,
        admission: Admission | None = None,
        thread_scope: str | None = None,
        letters: LettersReader | None = None,
    ) -> None:
        self._reader = reader
        self._admission = admission or Admission()
        self._thread_scope = thread_scope
        self._letters = letters
        self.disbelieved = 0
        """How many events claimed to drive a letter, and did not; may be read from any thread."""
        self.endings: Counter[Ending] = Counter()
        self._runner = runner
        self._outcomes = outcomes
        self._finish = finish
        self._new_lease = new_lease
        self._mark = mark
        self._lingering = lingering_works
        self._clock = clock
        self._observers = observers or Observers()
        self._run_queue = run_queue
        self._resting = Resting(run_queue.rests, remember=remember, clock=clock)
        self._asked: dict[Run, None] = {}
        # Their turn has come, and their bytes were let go.
        self._loading: dict[tuple[TopicPartition, int], Run] = {}
        # Of them it is asked whether they are redrives; those that cannot be read never run.
        self._claiming: dict[tuple[TopicPartition, int], Run | _Untried] = {}
        self._live: dict[Run, _Live] = {}
        self._open: dict[tuple[TopicPartition, int], Run] = {}
        self._gone: dict[TopicPartition, int] = {}
        self._suspended: set[TopicPartition] = set()
        self._cut: set[Run] = set()
        self._launched = 0
        self._tasks: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()
        self._draining = False

    @property
    def running(self) -> int:
        """How many attempts are running; may be read from any thread."""
        return len(self._live)

    @property
    def run_queue(self) -> RunQueue:
        """Whose turn it is."""
        return self._run_queue

    def waiting(self) -> dict[Wait, Amount]:
        """Return what of the events taken in waits to start, and for what."""
        return {
            **self._run_queue.waiting(),
            Wait.RESERVATION: Amount(len(self._asked), self._launched),
            Wait.RECORD: Amount(len(self._loading), self._launched),
            Wait.LETTERS: Amount(len(self._claiming)),
        }

    def moved(self, tp: TopicPartition, offset: int) -> float | None:
        """Return when a run last moved, or until when it waits as planned, whichever is later.

        In monotonic seconds; None when no run is open there. May be called from any thread.
        """
        run = self._open.get((tp, offset))
        if run is None:
            return None
        rests = self._run_queue.rests_until(run.workflow_id)
        return max(run.moved, run.due or 0.0, rests or 0.0)

    @property
    def open_threads(self) -> list[str]:
        """The threads of all runs that are open here, but those that producers named."""
        return [run.thread_id for run in self._open.values() if run.is_alone_on_thread]

    @property
    def open_named_threads(self) -> list[str]:
        """Those that producers named, of all runs that are open here."""
        return [run.thread_id for run in self._open.values() if not run.is_alone_on_thread]

    def begin(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Run attempts as tasks of this group; the task returned wakes held retries."""
        self._tasks = tasks
        return tasks.create_task(self._wake_held())

    def accept(self, polled_records: Iterable[PolledRecord]) -> None:
        """Take records in: run them when their turn comes, or settle them as they are."""
        for polled in polled_records:
            if polled.epoch > self._gone.get(polled.tp, 0):
                self._accept_alone(polled)
        self._go_on()

    def read_again(self, found: Found) -> None:
        """Take events that were read again, or None where there is no such record any more."""
        for at, record in found.items():
            run = self._loading.pop(at, None)
            if run is None or self._tasks is None or self._draining:
                continue
            if record is not None and self._restore(run, record):
                self._start(run, self._tasks)
            else:
                self._lose(run)
        self._go_on()

    def judged(self, found: Judged) -> None:
        """Hear of events whether they drive the letters that they name."""
        runs = []
        for at, is_redrive in found.items():
            asked = self._claiming.pop(at, None)
            if asked is None:
                continue
            if not is_redrive:
                self._disbelieve(asked)
            if isinstance(asked, Run):
                asked.judge(is_redrive=is_redrive)
                runs.append(asked)
            elif not self._draining:
                ours = asked.headers if is_redrive else asked.headers.as_any_other()
                self._settle(asked.end(ours))
        self._run_queue.judged(runs)
        self._go_on()

    def recall(self, all_metadata: Sequence[CommitMetadata]) -> None:
        """Go on with rests that are noted in the commits of partitions that come to us."""
        self._resting.recall(all_metadata)

    def suspend(self, tps: Mapping[TopicPartition, int]) -> None:
        """Let runs of partitions that are between two assignments go on, and write nothing."""
        self._suspended.update(tps)
        for live in self._live.values():
            if live.run.polled.tp in tps:
                live.lease.suspend()

    def resume(self, tps: Collection[TopicPartition]) -> None:
        """Let them write again: nobody had their partitions meanwhile."""
        self._suspended.difference_update(tps)
        for live in self._live.values():
            if live.run.polled.tp in tps:
                live.lease.resume()
        now = self._clock.monotonic()
        for run in [run for run in self._cut if run.polled.tp in tps]:
            self._cut.discard(run)
            self._run_queue.hold(run, until=now)
        self._ask_again()
        self._go_on()

    def revoke(self, tps: Mapping[TopicPartition, int]) -> None:
        """End everything of partitions that have gone; nothing of it may be written any more."""
        self._gone.update(tps)
        self._suspended.difference_update(tps)
        self._cut = {run for run in self._cut if not self._is_gone(run)}
        for tp in tps:
            self._run_queue.drop(tp, self._is_gone)
        for run in [run for run in self._asked if self._is_gone(run)]:
            del self._asked[run]
            self._run_queue.ended(run)
        for at, run in [(at, run) for at, run in self._loading.items() if self._is_gone(run)]:
            del self._loading[at]
            self._run_queue.ended(run)
        self._claiming = {at: one for at, one in self._claiming.items() if not self._is_gone(one)}
        if self._reader is not None:
            self._reader.forget(tps)
        if self._letters is not None:
            self._letters.forget(tps)
        self._open = {at: run for at, run in self._open.items() if not self._is_gone(run)}
        for live in list(self._live.values()):
            if self._is_gone(live.run):
                live.lease.end("its partition has gone to another worker")
                if live.task is not None:
                    live.task.cancel()
        self._go_on()

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        """Count endings that are durable; let start what waited for them, or for their commit."""
        needed: dict[Mark, list[str]] = {}
        for outcome in outcomes:
            self.endings[outcome.ending] += 1
            if is_detailed():
                log.debug("event.settled", **_position_of(outcome.polled), ending=outcome.ending)
            at = (outcome.polled.tp, outcome.polled.offset)
            run = self._open.get(at)
            # Durable, and its partition gone: the run that is open there is another one.
            if run is None or run.polled.epoch != outcome.polled.epoch:
                continue
            del self._open[at]
            self._run_queue.release(run)
            if run.is_alone_on_thread and (mark := _needed_for(outcome)) is not None:
                needed.setdefault(mark, []).append(run.thread_id)
        self._ask_again()
        self._go_on()
        told = [outcome.account for outcome in outcomes if outcome.account is not None]
        self._observers.settled(told)
        for mark, threads in needed.items():
            self._note_threads(threads, mark)

    async def drain(self, *, timeout_s: float) -> int:
        """Start nothing more, stop runs at their next checkpoint; return how many had to be cut."""
        self._draining = True
        if self._reader is not None:
            self._reader.close()
        if self._letters is not None:
            self._letters.close()
        self._lingering.stop()
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

    def _accept_alone(self, polled: PolledRecord) -> None:
        try:
            self._accept(polled)
        except Exception:
            # A bug of ours, which must not cost the events behind this one: its offset waits. [P7]
            log.exception("event.not_taken", **_position_of(polled))

    def _accept(self, polled: PolledRecord) -> None:
        record = polled.record
        try:
            if record.unreadable is not None:
                raise RecordError(record.unreadable)  # noqa: TRY301 - as what is read of it
            event = WorkflowEvent.from_bytes(record.value)
            headers = EventHeaders.of_event(record.headers, event.event_id)
        except RecordError as error:
            self._accept_unreadable(polled, error)
            return
        if event.event_type != TRIGGERED:
            self._settle(self._outcomes.skipped(polled, event))
            return
        history = polled.starts.history(record.offset)
        run = Run(
            polled=polled,
            event=event,
            headers=headers,
            thread_id=headers.thread_of(event.event_id, record.tp.partition),
            deadline=self._deadline(headers),
            failed_before=history.failed,
            crashes=history.crashes,
            moved=self._clock.monotonic(),
            due=self._due(history),
            claim=ClaimedRedrive.of_record(record, headers, event.event_id),
            # It may yet turn out that it works on another one of its own.
            lane=None
            if headers.named_thread is not None
            else own_thread(event.event_id, record.tp.partition),
        )
        refused = self._admission.refusal(record, event)
        if refused is not None:
            self._end_untried(run, refused)
            return
        try:
            scope = thread_scope(headers, event, self._thread_scope)
        except RecordError as error:
            self._note_unreadable(polled, error)
            self._end_untried(run, GivenUp(error, Failure(Kind.POISON), Reason.UNREADABLE))
            return
        if scope is not None:
            run.thread_id = headers.thread_of(event.event_id, record.tp.partition, scope=scope)
        self._open[record.tp, record.offset] = run
        self._run_queue.put(run)

    def _end_untried(self, run: Run, given_up: GivenUp) -> None:
        def end(headers: EventHeaders) -> Outcome:
            run.judge(is_redrive=headers.of is not None)
            return self._outcomes.given_up(run, given_up)

        self._settle_judged(run.polled, run.headers, run.event_id, end)

    def _accept_unreadable(self, polled: PolledRecord, error: RecordError) -> None:
        self._note_unreadable(polled, error)
        event_id = readable_event_id(polled.record.value)
        headers = EventHeaders.claimed_by(polled.record.headers, event_id)

        def end(headers: EventHeaders) -> Outcome:
            return self._outcomes.unreadable(polled, error, headers=headers)

        self._settle_judged(polled, headers, event_id, end)

    def _settle_judged(
        self,
        polled: PolledRecord,
        headers: EventHeaders,
        event_id: str | None,
        end: Callable[[EventHeaders], Outcome],
    ) -> None:
        """End an event that never runs, once it is known whether it drives a letter."""
        claim = ClaimedRedrive.of_record(polled.record, headers, event_id)
        if claim is None:
            self._settle(end(headers))
        else:
            at = (polled.tp, polled.offset)
            self._ask_letters({at: _Untried(polled, headers, end)}, {at: claim})

    def _note_unreadable(self, polled: PolledRecord, error: RecordError) -> None:
        masked = self._outcomes.redactor.mask(str(error))
        log.warning("event.unreadable", **_position_of(polled), error=masked)

    def _ask_letters(
        self,
        asked: Mapping[tuple[TopicPartition, int], Run | _Untried],
        claims: Mapping[tuple[TopicPartition, int], ClaimedRedrive],
    ) -> None:
        self._claiming.update(asked)
        if self._letters is None:
            self.judged(dict.fromkeys(asked, False))
        else:
            self._letters.ask(claims)

    def _disbelieve(self, asked: Run | _Untried) -> None:
        """Count an event that says of itself what its letter does not say, and log it."""
        self.disbelieved += 1
        tp = asked.polled.tp
        times = REPEATS.to_log("event.no_redrive", tp)
        if times is not None:
            log.warning(
                "event.no_redrive",
                **_position_of(asked.polled),
                letter=asked.headers.of,
                count=asked.headers.count,
                **times,
            )

    def _deadline(self, headers: EventHeaders) -> float | None:
        if headers.deadline is None:
            return None
        left_s = headers.deadline / 1000 - self._clock.now().timestamp()
        return self._clock.monotonic() + left_s

    def _due(self, history: OffsetEntry) -> float | None:
        """Return until when it waits as an earlier attempt has left it, or None."""
        left_s = history.until - self._clock.now().timestamp()
        return self._clock.monotonic() + left_s if left_s > 0 else None

    def _fill(self) -> None:
        if self._tasks is None or self._draining:
            return
        self._resting.end(self._run_queue.end_rests(self._clock.monotonic()))
        while (run := self._run_queue.take(self._clock.monotonic())) is not None:
            if run.is_let_go and self._reader is not None:
                at = (run.polled.tp, run.polled.offset)
                self._loading[at] = run
                self._reader.ask(*at)
            else:
                self._start(run, self._tasks)
        if claims := self._run_queue.unjudged():
            runs = {(run.polled.tp, run.polled.offset): run for run in claims}
            self._ask_letters(runs, {at: claims[run] for at, run in runs.items()})

    def _start(self, run: Run, tasks: asyncio.TaskGroup) -> None:
        if self._may_start(run):
            self._launch(run, tasks)
        else:
            self._asked[run] = None

    def _restore(self, run: Run, record: ConsumerRecord) -> bool:
        """Give a run its event back, if what lies at its position is that event still."""
        try:
            event = WorkflowEvent.from_bytes(record.value)
        except RecordError:
            return False
        if (event.event_id, event.workflow_id) != (run.event_id, run.workflow_id):
            return False
        if self._admission.refuses_now(record, event):
            return False
        run.restore(record, event)
        return True

    def _lose(self, run: Run) -> None:
        """End a run whose event is no more: its log was cut, or has begun anew."""
        log.error("event.gone", **_position_of(run.polled), event_id=run.event_id)
        error = RecordError(
            "its record is not on its topic any more: it was deleted while the event waited, or "
            "another one has taken its place. See the retention of the topic"
        )
        self._run_queue.ended(run)
        self._settle(self._outcomes.gone(run, error))

    def _settle(self, outcome: Outcome) -> None:
        polled = outcome.polled
        polled.share.end(polled.offset, outcome.size_bytes)
        self._finish(outcome)

    def _note_threads(self, threads: list[str], mark: Mark) -> None:
        """Note it beside what goes on; where nothing does any more, they end unmarked."""
        if self._tasks is None:
            return
        noting = self._note_alone(threads, mark)
        try:
            self._tasks.create_task(noting)
        except RuntimeError:  # The group has ended: this worker has stopped.
            noting.close()

    async def _note_alone(self, threads: list[str], mark: Mark) -> None:
        try:
            await self._mark(threads, mark)
        except Exception as error:  # noqa: BLE001 - a background task: the runs are settled either way
            log.warning(
                "checkpoints.not_kept", threads=len(threads), needed_for=mark, error=str(error)
            )

    def _ask_again(self) -> None:
        """Start what a commit allows by now."""
        if self._tasks is None or self._draining:
            return
        for run in [run for run in self._asked if self._may_start(run)]:
            del self._asked[run]
            self._launch(run, self._tasks)

    def _may_start(self, run: Run) -> bool:
        return self._run_queue.is_condemned(run) or run.polled.starts.start(run.polled.offset)

    def _launch(self, run: Run, tasks: asyncio.TaskGroup) -> None:
        live = _Live(run, self._new_lease(run.polled), self._runner.new_control())
        if run.polled.tp in self._suspended:
            live.lease.suspend()
        self._live[run] = live
        self._launched += 1
        live.task = tasks.create_task(self._attempt(live))

    async def _attempt(self, live: _Live) -> None:
        run = live.run
        try:
            self._resting.blame(run)
            if live.lease.state is LeaseState.STALE:
                step = NextStep(Left())
            elif self._run_queue.is_condemned(run):
                step = await self._runner.condemn(run, lease=live.lease)
            else:
                step = await self._runner.attempt(run, lease=live.lease, control=live.control)
            if step.attempt is not None:
                self._observers.attempt_ended(step.attempt)
            if not self._is_gone(run):
                self._follow(run, step)
        except asyncio.CancelledError:
            if not (self._is_gone(run) or self._draining):
                raise
            return
        except Exception:
            # A bug of ours, which must not end the other runs: its offset waits. [P7]
            log.exception("event.not_run", **_position_of(run.polled))
        finally:
            live.lease.end()
            del self._live[run]
            self._run_queue.ended(run)
        self._go_on()

    def _go_on(self) -> None:
        """Start what may start, and let who waits for the next due time look again."""
        self._changed.set()
        self._fill()

    def _follow(self, run: Run, step: NextStep) -> None:
        now = self._clock.monotonic()
        self._resting.heard(run, dependency=step.dependency, asked_s=step.asked_s)
        if self._tasks is not None:
            for lingering in step.lingering_works:
                self._lingering.watch(run, lingering, self._tasks)
        match step.next:
            case Outcome() as outcome:
                if run.is_alone_on_thread and _needed_for(outcome) is Mark.LETTER:
                    # Before it is settled: a death right after that must not leave it unmarked.
                    self._note_threads([run.thread_id], Mark.RUNNING)
                self._settle(outcome)
            case Again(after_s):
                until = math.ceil(self._clock.now().timestamp() + after_s)
                run.polled.starts.failed(run.polled.offset, until=until)
                run.due = now + after_s
                self._run_queue.hold(run, until=run.due)
            case Left() if self._draining:
                pass
            case Left() if run.polled.tp in self._suspended:
                # It could not wait to write: it is tried again when its partition is back.
                self._cut.add(run)
            case Left():
                # Cut while its partition was away, and back before it had unwound; or its lease saw
                # a gap that cost nothing. The event is still ours, and nobody else will run it.
                self._run_queue.hold(run, until=now + _LEFT_AGAIN_S)

    async def _wake_held(self) -> None:
        while not self._draining:
            self._changed.clear()
            looked_at = self._clock.monotonic()
            self._fill()
            due = self._run_queue.next_due()
            if due is None or due <= looked_at:
                # What was due and not taken waits for a slot. What has become due since then was
                # not looked at: on a busy machine, nothing else might ever change.
                await self._changed.wait()
            else:
                await self._sleep_or_change(max(due - self._clock.monotonic(), 0.0))

    async def _sleep_or_change(self, wait_s: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(wait_s))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((sleeping, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            changed.cancel()

    def _is_gone(self, run: Run | _Untried) -> bool:
        return run.polled.epoch <= self._gone.get(run.polled.tp, 0)


def _needed_for(outcome: Outcome) -> Mark | None:
    """Say what the run's thread is needed for from now on, beside answering the event again."""
    error = outcome.account.error if outcome.account is not None else None
    reason = None if error is None else error.reason
    if reason is Reason.OTHER_INPUT:
        return None  # The thread is another event's.
    if outcome.ending is Ending.DEAD_LETTERED:
        return Mark.LETTER
    return Mark.QUESTION if reason is Reason.INTERRUPT else None


def _position_of(polled: PolledRecord) -> dict[str, object]:
    tp = polled.tp
    return {"topic": tp.topic, "partition": tp.partition, "offset": polled.offset}
