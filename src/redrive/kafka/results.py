"""Waiting for the one answer to an event: one reader, any number of waiters.

A waiter says from which offsets on its answer can stand (`redrive.kafka.end_offsets`, taken before
the event is published), so an answer that comes before the wait begins is found as well. Which
result it is that answers, `redrive.kafka.expected` judges: whoever may write results may write one
under any key. Nothing is committed and no group is joined: waiters cannot take each other's
answers. Airflow and the command line wait here; what they make of the answer is theirs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.errors import RecordError, RedriveError, SettingsError
from redrive.events import WorkflowResultEvent
from redrive.kafka.client import reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.expected import Expected
from redrive.kafka.growth import Growth
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.recent_results import SeenResult
from redrive.kafka.result_scan import ResultScan
from redrive.kafka.retrying import BACKOFF

__all__ = ["ResultReader"]

log = structlog.get_logger(__name__)

POLL = timedelta(milliseconds=50)
"""The longest that one who joins waits for the reader to look up."""
CLOSE_WITHIN = timedelta(seconds=5)

Answer = Future[WorkflowResultEvent]


@dataclass(slots=True, eq=False)
class _Waiter:
    expected: Expected
    offsets: dict[int, int]
    answer: Answer = field(default_factory=Future)
    has_passed_by: bool = False
    """Whether a result was passed by already: the first one is logged, not each of a flood."""

    @property
    def key(self) -> bytes:
        return self.expected.event_id.encode()


class ResultReader:
    """Reads one results topic for everybody in this process who waits for a result.

    Its thread and its consumer live from the first waiter until `idle_after` has passed without
    one; while the broker is away it keeps trying. Safe from any thread and any event loop.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        idle_after: timedelta = timedelta(seconds=30),
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = settings
        self._idle_after_s = idle_after.total_seconds()
        self._clock = clock
        self._changed = threading.Condition()
        self._waiters: dict[bytes, list[_Waiter]] = {}
        self._joining: list[_Waiter] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._consumers_made = 0

    @property
    def waiting(self) -> int:
        """How many wait now."""
        with self._changed:
            return sum(len(same_key) for same_key in self._waiters.values())

    @property
    def consumers_made(self) -> int:
        """How many consumers it has had so far."""
        return self._consumers_made

    async def wait_for(
        self, expected: Expected | str, offsets: Mapping[int, int], deadline: datetime
    ) -> WorkflowResultEvent:
        """Return the first result that is the one expected, and stands at or after `offsets`.

        Of an event by its id alone, any result is expected that bears the id.

        Raises:
            TimeoutError: There was none until `deadline`.
            SettingsError: The client's options cannot work, or the broker refuses who we say we
                are.
            RedriveError: The reader was closed.
        """
        expected = _expected(expected)
        with self._wait(expected, offsets) as answer:
            try:
                async with asyncio.timeout(self._left(deadline)):
                    return await asyncio.wrap_future(answer)
            except TimeoutError as error:
                raise self._too_late(expected.event_id, deadline) from error

    def wait_in_thread(
        self, expected: Expected | str, offsets: Mapping[int, int], deadline: datetime
    ) -> WorkflowResultEvent:
        """Do what `wait_for` does, and block this thread meanwhile."""
        expected = _expected(expected)
        with self._wait(expected, offsets) as answer:
            try:
                return answer.result(self._left(deadline))
            except TimeoutError as error:
                raise self._too_late(expected.event_id, deadline) from error

    def close(self) -> None:
        """End the reader; whoever still waits gets an error."""
        with self._changed:
            self._closed = True
            self._fail_all(self._was_closed())
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_WITHIN.total_seconds())

    def _left(self, deadline: datetime) -> float:
        return max(0.0, (deadline - self._clock.now()).total_seconds())

    def _too_late(self, event_id: str, deadline: datetime) -> TimeoutError:
        topic = self._settings.results_topic
        return TimeoutError(
            f"no result for event {event_id} on {topic!r} until {deadline.isoformat()}"
        )

    def _was_closed(self) -> RedriveError:
        return RedriveError(f"the reader of {self._settings.results_topic!r} was closed")

    @contextmanager
    def _wait(self, expected: Expected, offsets: Mapping[int, int]) -> Iterator[Answer]:
        waiter = _Waiter(expected, dict(offsets))
        self._enter(waiter)
        try:
            yield waiter.answer
        finally:
            self._leave(waiter)

    def _enter(self, waiter: _Waiter) -> None:
        with self._changed:
            if self._closed:
                raise self._was_closed()
            self._waiters.setdefault(waiter.key, []).append(waiter)
            self._joining.append(waiter)
            if self._thread is None:
                name = f"results:{self._settings.results_topic}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _leave(self, waiter: _Waiter) -> None:
        with self._changed:
            others = [w for w in self._waiters.get(waiter.key, ()) if w is not waiter]
            self._waiters[waiter.key] = others
            if not others:
                del self._waiters[waiter.key]

    # What follows runs on the reader's thread.

    def _run(self) -> None:
        scan: ResultScan | None = None
        resting, broken = True, 0
        while self._is_wanted(resting=resting):
            try:
                if scan is None:
                    scan = self._open()
                resting, broken = self._turn(scan), 0
                if scan.is_outdated:
                    self._begin_anew(scan)
                    scan = None
            except SettingsError as error:
                with self._changed:
                    self._fail_all(error)
                _close(scan)
                scan, resting = None, True
            except Exception:
                # A marked boundary: whatever broke, the answers may still come.
                broken += 1
                wait_s = BACKOFF.delay(broken, self._clock.random())
                topic = self._settings.results_topic
                log.exception("results.reader_broke", topic=topic, after_s=round(wait_s, 2))
                _close(scan)
                scan, resting = None, True
                self._clock.block(wait_s)
        _close(scan)

    def _is_wanted(self, *, resting: bool) -> bool:
        with self._changed:
            if resting:
                self._changed.wait_for(
                    lambda: self._waiters or self._closed, timeout=self._idle_after_s
                )
            if not self._closed and (self._waiters or not resting):
                return True
            # Under the lock: one who joins after this line starts a thread of its own.
            self._thread = None
            return False

    def _open(self) -> ResultScan:
        # The scan comes just below; it is told of errors while it is read.
        config = reader_config(self._settings, partition_eof=True)
        consumer = make_consumer(config, on_error=lambda error: scan.hear(error))  # noqa: PLW0108
        self._consumers_made += 1
        with self._changed:
            self._joining = [w for same_key in self._waiters.values() for w in same_key]
        topic = self._settings.results_topic
        growth = Growth(consumer, topic, settings=self._settings, clock=self._clock)
        scan = ResultScan(consumer, topic, growth=growth)
        return scan

    def _turn(self, scan: ResultScan) -> bool:
        """Serve who waits; return whether nobody does, and the scan rests."""
        with self._changed:
            joining, self._joining = self._joining, []
            if not self._waiters:
                scan.rest()
                return True
        for waiter in joining:
            _count_anew(waiter, [p for p, at in waiter.offsets.items() if scan.beyond(p, at)])
            known = scan.known(waiter.key, waiter.offsets)
            if not any(self._answer([waiter], seen) for seen in known):
                scan.need(waiter.offsets)
        found, anew = scan.read(POLL), scan.began_anew()
        if anew:
            with self._changed:
                everybody = [w for same_key in self._waiters.values() for w in same_key]
            for waiter in everybody:
                _count_anew(waiter, anew)
            scan.need(dict.fromkeys(anew, 0))
        for seen in found:
            with self._changed:
                waiters = list(self._waiters.get(seen.key, ()))
            self._answer([w for w in waiters if seen.is_for(w.offsets)], seen)
        return False

    def _begin_anew(self, scan: ResultScan) -> None:
        """Let go of a client that may read nothing of the new topic: the next one reads it all."""
        log.error("results.log_began_anew", topic=self._settings.results_topic)
        _close(scan)
        with self._changed:
            for waiter in (w for same_key in self._waiters.values() for w in same_key):
                _count_anew(waiter, list(waiter.offsets))

    def _answer(self, waiters: list[_Waiter], seen: SeenResult) -> bool:
        """Hand a result to those who expect it; return whether it is anybody's.

        One that cannot be read is no answer, and one that is another's is passed by.
        """
        if not waiters:
            return False
        try:
            result = WorkflowResultEvent.from_bytes(seen.value)
        except RecordError as error:
            _passed_by(waiters, seen, f"it cannot be read: {error}")
            return False
        theirs = []
        for waiter in waiters:
            why = waiter.expected.mismatch(result)
            if why is None:
                theirs.append(waiter)
            else:
                _passed_by([waiter], seen, why)
        with self._changed:
            for waiter in theirs:
                if _is_open(waiter):
                    waiter.answer.set_result(result)
        return bool(theirs)

    def _fail_all(self, error: Exception) -> None:
        for same_key in self._waiters.values():
            for waiter in filter(_is_open, same_key):
                waiter.answer.set_exception(error)
        self._waiters.clear()
        self._joining.clear()


def _expected(event: Expected | str) -> Expected:
    return Expected(event) if isinstance(event, str) else event


def _passed_by(waiters: list[_Waiter], seen: SeenResult, why: str) -> None:
    """Say once to each waiter's name that a result under its key is not its own."""
    for waiter in waiters:
        if not waiter.has_passed_by:
            waiter.has_passed_by = True
            event_id, place = waiter.expected.event_id, f"{seen.partition}@{seen.offset}"
            log.warning("results.passed_by", event_id=event_id, place=place, why=why)


def _close(scan: ResultScan | None) -> None:
    if scan is not None:
        scan.close()


def _count_anew(waiter: _Waiter, partitions: Iterable[int]) -> None:
    """Count from the beginning of these partitions: the log that was counted from is gone."""
    waiter.offsets.update(dict.fromkeys(partitions, 0))


def _is_open(waiter: _Waiter) -> bool:
    """Return whether it still waits; from here on it can no longer be cancelled."""
    return not waiter.answer.done() and waiter.answer.set_running_or_notify_cancel()
