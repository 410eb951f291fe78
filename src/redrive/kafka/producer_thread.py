"""The settle thread's hands: the one owner of the Producer, and of every call that can block on it.

One batch at a time. After any failure, a timeout included, the producer is thrown away: a second
call on it can hang for ever, whatever limit it was given (librdkafka #5456, #5511), and after an
abort its next transaction can lose records and say that it is committed (decision 22). The new
producer's `init_transactions` ends whatever the old one left open; after it, what a read of the
committed offsets says is the truth. A call that outlives its limit is abandoned together with its
thread. [P1, P2, P7]
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Queue

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from redrive.clock import Clock
from redrive.kafka.batches import Batch, InDoubt, RefusedBatch, Report, Stopped, Stored
from redrive.kafka.retrying import BACKOFF, advice, error_of, is_permanent
from redrive.kafka.sending import TOPIC_ERRORS, Sending
from redrive.telemetry.instruments import Counter
from redrive.telemetry.repeats import REPEATS

__all__ = ["CallLimits", "MakeProducer", "ProducerThread", "broken_by"]

log = structlog.get_logger("redrive.kafka")

_FENCED = KafkaError._FENCED
_STATE = KafkaError._STATE
_TIMED_OUT = KafkaError._TIMED_OUT
_RESUMED = frozenset({_TIMED_OUT, KafkaError.CONCURRENT_TRANSACTIONS})
_INIT_STEPS_S = (0.05, 0.05, 0.05, 0.1, 0.25, 0.5)
_ENDING_S = 5.0
_LONGER_FOR_S = 60.0

MakeProducer = Callable[[float], Producer]
"""Makes a producer of which a transaction, or a record, may take so many seconds."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds that each call on the producer may take; `slack` more, and it is abandoned."""

    init: float = 10.0
    send_offsets: float = 10.0
    flush: float = 10.0
    commit: float = 10.0
    begin: float = 5.0
    slack: float = 5.0
    transaction: float = 10.0
    """The broker's own limit for an open transaction (`transaction.timeout.ms`)."""


class _AbandonedError(Exception):
    """This thread's call outlived its limit; another thread carries on."""


class ProducerThread:
    """One thread, and the producers that it makes until it is abandoned."""

    def __init__(
        self,
        inbox: Queue[Batch | None],
        make_producer: MakeProducer,
        transactional: bool,  # noqa: FBT001 - built in one place, just above
        report: Callable[[Report], None],
        clock: Clock,
        limits: CallLimits,
        replaced: Counter,
    ) -> None:
        self._inbox = inbox
        self.ready = threading.Event()
        self.last_error: KafkaError | None = None
        self.refusal: KafkaError | None = None
        self._make_producer = make_producer
        self._transactional = transactional
        self._report = report
        self._clock = clock
        self._limits = limits
        self._replaced = replaced
        self._producer: Producer | None = None
        self._committing = False
        self._batch: Batch | None = None
        self._began = 0.0
        self._call: tuple[str, float] | None = None
        self._abandoned = False
        self._handing_over = threading.Lock()
        """Held where a batch is taken on or given back: either this thread has it, or its heir."""
        self.died: Exception | None = None
        self._sending: Sending | None = None
        self._timeout_s = limits.transaction
        self._longest_s = math.inf
        self._needed_at = 0.0
        self._thread: threading.Thread | None = None

    def start(self, *, recover: Report | None, first: bool = False) -> None:
        """Begin: open a producer, report `recover` if there is something to, take batches on."""
        self._thread = threading.Thread(
            target=self._run, args=(recover, first), name="redrive-settle", daemon=True
        )
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end, for so many seconds."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def abandon(self, why: str = "closed") -> Report | None:
        """Let the thread make no further call; return what is to be read back, if anything.

        It may be on its way into the commit at this very moment: whatever it was doing is in doubt.
        """
        with self._handing_over:
            self._abandoned = True
            return InDoubt(self._batch.number, why) if self._batch is not None else None

    def stuck(self, *, for_s: float = 0.0) -> str | None:
        """Return the call that outlived its limit, by more than `for_s` seconds, if one did."""
        call = self._call
        return call[0] if call is not None and self._clock.monotonic() > call[1] + for_s else None

    @property
    def is_alive(self) -> bool:
        """Whether its thread has begun and not ended; may be read from any thread."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_open(self) -> bool:
        """Whether there is a producer that can take a batch on; may be read from any thread."""
        return self._producer is not None

    def _run(self, recover: Report | None, first: bool) -> None:  # noqa: FBT001 - as above
        try:
            self._renew(first=first)
            if recover is not None:
                self._tell(recover)
            while (batch := self._take()) is not None:
                self._give_back(self._settle(batch))
        except _AbandonedError:
            return
        except Exception as error:  # noqa: BLE001 - a thread's edge: `watch` tells of it
            self.died = error
            self.ready.set()

    def _take(self) -> Batch | None:
        batch = self._inbox.get()
        with self._handing_over:
            if self._abandoned:
                self._inbox.put_nowait(batch)
                raise _AbandonedError
            self._batch, self._committing = batch, False
        return batch

    def _give_back(self, report: Report) -> None:
        with self._handing_over:
            self._batch = None
            self._tell(report)

    def _tell(self, report: Report) -> None:
        if not self._abandoned:
            self._report(report)

    def _settle(self, batch: Batch) -> Report:
        self._sending = None
        self._make_time(batch)
        try:
            if self._transactional:
                sending = self._in_transaction(batch)
            else:
                sending = self._send(batch)
                sending.confirm()
        except KafkaException as exception:
            return self._after(exception.args[0], batch)
        return Stored(batch.number, sending.took_s) if sending.confirmed else self._refuse(batch)

    def _in_transaction(self, batch: Batch) -> Sending:
        producer, limits = self._open(), self._limits
        self._began = self._clock.monotonic()
        producer.begin_transaction()
        sending = self._send(batch)
        if sending.failed:
            return sending
        if batch.offsets:
            limit_s = max(limits.send_offsets, batch.allowed_s)
            if self._timeout_s > limits.transaction:
                # The client asks for that long, whatever it is told.
                limit_s = max(limit_s, self._timeout_s)
            self._bounded(
                "send_offsets_to_transaction",
                limit_s,
                producer.send_offsets_to_transaction,
                list(batch.offsets),
                batch.group,
                limit_s,
            )
        sending.confirm()
        if sending.confirmed:
            self._committing = True
            self._bounded("commit", limits.commit, producer.commit_transaction, limits.commit)
        return sending

    def _send(self, batch: Batch) -> Sending:
        self._sending = Sending(
            self._open(),
            batch.records,
            allowed_s=max(self._limits.flush, min(batch.allowed_s, self._longest_s)),
            together=self._transactional,
            bounded=self._bounded,
            clock=self._clock,
        )
        self._sending.produce()
        return self._sending

    def _make_time(self, batch: Batch) -> None:
        """Have a producer whose transactions may last as long as the batch may need.

        No longer than that, for long: what a worker that dies leaves open holds readers back. (R18)
        """
        usual_s, now = self._limits.transaction, self._clock.monotonic()
        needed_s = usual_s
        if batch.allowed_s > self._limits.flush:
            needed_s = min(batch.allowed_s + _ENDING_S, self._longest_s)
            self._needed_at = now
        over = self._timeout_s > usual_s and now - self._needed_at > _LONGER_FOR_S
        if needed_s > self._timeout_s or (needed_s == usual_s and over):
            # Twice as long at least, so that not every other batch needs another producer.
            grown_s = min(max(needed_s, 2 * self._timeout_s), self._longest_s)
            self._timeout_s = usual_s if needed_s == usual_s else grown_s
            log.info("settle.transaction_timeout", timeout_s=round(self._timeout_s, 1))
            self._renew()

    def _after(self, error: KafkaError, batch: Batch) -> Report:
        """Choose what a failed call means for the batch, and mend the producer."""
        failed = self._sending is not None and self._sending.failed
        if failed or (self._transactional and error.txn_requires_abort()):
            return self._refuse(batch, error)
        # After any other error, a timeout say, no further call is safe.
        broken = self._broken_by() if error.code() == _STATE and not self._committing else None
        if broken is not None:
            return self._refuse(batch, broken)
        expired = self._clock.monotonic() - self._began >= self._timeout_s
        # A transaction that outlived the broker's limit is fenced by the broker itself.
        if error.code() == _FENCED and not expired:
            return Stopped(error)
        in_doubt = self._committing
        log.warning("settle.producer_replaced", error=str(error), in_doubt=in_doubt)
        self._renew()
        if in_doubt:
            return InDoubt(batch.number, error)
        return RefusedBatch(batch.number, error, late=error.code() == _TIMED_OUT)

    def _refuse(self, batch: Batch, error: KafkaError | None = None) -> Report:
        sending = self._sending
        failed = {} if sending is None else sending.failed
        culprits = frozenset[int]() if sending is None else sending.culprits
        why = next((failed[index] for index in culprits or failed), error)
        if not culprits and not (sending and sending.leaderless):
            broken = error if error and error.txn_requires_abort() else self._broken_by()
            if broken is not None and broken.code() in TOPIC_ERRORS:
                # Which topic it was, nobody tells: each of them may be the one.
                why, culprits = broken, frozenset(range(len(batch.records)))
        self._renew()
        if sending is None:
            return RefusedBatch(batch.number, why or "aborted", culprits)
        return RefusedBatch(
            batch.number,
            why or ("its time was over" if sending.late else "aborted"),
            culprits,
            unsent={i: place for i, place in sending.unsent.items() if i not in culprits},
            leaderless=sending.leaderless,
            delivered=sending.delivered,
            # Offsets may wait behind records on their way: then it is these that take too long.
            late=sending.late or (error is not None and error.code() == _TIMED_OUT),
            partitions=sending.partitions,
        )

    def _broken_by(self) -> KafkaError | None:
        if not self._transactional:
            return None
        limit = self._limits.begin
        error = self._bounded("begin_transaction", limit, broken_by, self._open())
        return error if isinstance(error, KafkaError) else None

    def _renew(self, *, first: bool = False) -> None:
        """Throw the producer away and open a new one, for as long as that takes.

        Only the very first may be refused: later, runs have ended whose outcomes wait here.
        """
        failures = 0
        if not first:
            self._replaced.add()
        while True:
            self._producer = None
            try:
                self._producer = self._initialised()
            except KafkaException as exception:
                self.last_error = error_of(exception)
                failures += 1
                if self._is_too_long(self.last_error):
                    continue
            else:
                self.ready.set()
                return
            if first and _is_refusal(self.last_error):
                self.refusal = self.last_error
                self.ready.set()
                raise _AbandonedError
            self._wait_for_broker(self.last_error, failures)

    def _is_too_long(self, error: KafkaError) -> bool:
        """Go back to the usual time where the broker does not grant a longer one."""
        usual_s = self._limits.transaction
        if error.code() != KafkaError.INVALID_TRANSACTION_TIMEOUT or self._timeout_s <= usual_s:
            return False
        refused_s, self._longest_s = self._timeout_s, max(self._timeout_s / 2, usual_s)
        self._timeout_s = self._longest_s
        log.warning(
            "settle.transaction_timeout_refused",
            refused_s=round(refused_s, 1),
            timeout_s=round(self._timeout_s, 1),
            advice="raise transaction.max.timeout.ms of the broker",
        )
        return True

    def _initialised(self) -> Producer:
        producer = self._make_producer(self._timeout_s)
        if self._transactional:
            limit = self._limits.init
            try:
                self._init_transactions(producer, limit)
            except KafkaException:
                # Why a call just timed out waits in the client's queue; hearing it logs it. After
                # a fatal error the poll raises that once more.
                with contextlib.suppress(KafkaException):
                    self._bounded("poll", limit, producer.poll, 0)
                raise
        return producer

    def _init_transactions(self, producer: Producer, limit_s: float) -> None:
        """End what an earlier producer left open, asking for it in short steps.

        Told that the broker is just about to end it (CONCURRENT_TRANSACTIONS), librdkafka asks
        again after half a second; another call resumes the operation, and asks at once. [N15]
        """
        for step_s in _INIT_STEPS_S:
            try:
                self._bounded("init_transactions", step_s, producer.init_transactions, step_s)
            except KafkaException as exception:
                if exception.args[0].code() not in _RESUMED:
                    raise
            else:
                return
        left_s = max(limit_s - sum(_INIT_STEPS_S), _INIT_STEPS_S[-1])
        self._bounded("init_transactions", left_s, producer.init_transactions, left_s)

    def _wait_for_broker(self, error: KafkaError, failures: int) -> None:
        wait_s = BACKOFF.delay(failures, self._clock.random())
        step = {"error": str(error), "attempt": failures, "after_s": round(wait_s, 2)}
        times = REPEATS.to_log("settle.waiting_for_broker", error.code(), error.str())
        if times is not None and _is_refusal(error):
            log.error("settle.producer_refused", **step, **times, advice=advice(error))
        elif times is not None:
            log.warning("settle.waiting_for_broker", **step, **times)
        self._clock.block(wait_s)
        self._check()

    def _open(self) -> Producer:
        assert self._producer is not None  # noqa: S101 - _renew() ran before any batch
        return self._producer

    def _check(self) -> None:
        if self._abandoned:
            raise _AbandonedError

    def _bounded(
        self, name: str, limit_s: float, call: Callable[..., object], *args: object
    ) -> object:
        self._call = (name, self._clock.monotonic() + limit_s + self._limits.slack)
        try:
            return call(*args)
        except SystemError as error:
            # What confluent-kafka makes of a fatal error that comes with delivery reports.
            if isinstance(error.__cause__, KafkaException):
                raise error.__cause__ from error
            raise
        finally:
            self._call = None
            # An abandoned thread must not make another call: its batch is someone else's now.
            self._check()


def broken_by(producer: Producer) -> KafkaError | None:
    """Return what a transaction can only be aborted for; its calls and reports hide it.

    A topic that may not be written to breaks the whole of it. What waits is then purged, the next
    call is in an "erroneous state", and only a begin out of place names the reason.
    """
    try:
        producer.begin_transaction()
    except KafkaException as exception:
        error = error_of(exception)
        return error if error.txn_requires_abort() else None
    return None


def _is_refusal(error: KafkaError) -> bool:
    # Without the flag: what is fatal to one producer is not to the next. And what is permanent
    # without our knowing what to do, such as being fenced, is the end of one producer too.
    plain = KafkaError(error.code(), error.str())
    return is_permanent(plain) and advice(plain) is not None
