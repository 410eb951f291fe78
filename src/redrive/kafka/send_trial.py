"""A trial: can these records be stored by now? Asked aside, so that nobody else waits for it.

With transactions it has a producer and a transactional id of its own, and what it wrote is aborted:
it ends in no offset, and no read-committed reader sees it. Without, what it wrote counts. It is one
thread, one producer and one batch; whoever hangs is left behind. [P7]
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaException, Producer

from redrive.clock import Clock
from redrive.kafka.batches import Batch, Report, Tried
from redrive.kafka.producer_thread import CallLimits, MakeProducer, broken_by
from redrive.kafka.retrying import error_of
from redrive.kafka.sending import TOPIC_ERRORS, Sending

__all__ = ["SendTrial"]

log = structlog.get_logger("redrive.kafka")

_INIT_S = 5.0
_ABORT_S = 5.0
_ALLOWED_S = 10.0


class SendTrial:
    """Tries one batch of records on a thread of its own, once.

    Args:
        batch: The records; it has no offsets.
        make_producer: Makes the producer of trials.
        transactional: Whether what is written is to be taken back.
        report: Called on that thread with what came of it, once.
        clock: For the limits.
        limits: How long its calls may take.
    """

    def __init__(
        self,
        batch: Batch,
        make_producer: MakeProducer,
        *,
        transactional: bool,
        report: Callable[[Report], None],
        clock: Clock,
        limits: CallLimits,
    ) -> None:
        self._batch = batch
        self._make_producer = make_producer
        self._transactional = transactional
        self._report = report
        self._clock = clock
        self._allowed_s = max(_ALLOWED_S, batch.allowed_s)
        self._timeout_s = max(limits.transaction, self._allowed_s + _ABORT_S)
        self._ends_at = clock.monotonic() + self._allowed_s + _INIT_S + _ABORT_S + limits.slack
        self._deciding = threading.Lock()
        self._told = False
        self._thread = threading.Thread(target=self._run, name="redrive-trial", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether its thread has not ended; for any thread."""
        return self._thread.is_alive()

    def watch(self) -> None:
        """Give it up if it has outlived its time."""
        if not self._told and self._clock.monotonic() > self._ends_at:
            self._tell(Tried(self._batch.number, error="the trial did not return within its limit"))

    def _tell(self, report: Report) -> None:
        with self._deciding:
            if self._told:
                return
            self._told = True
        self._report(report)

    def _run(self) -> None:
        try:
            report = self._try()
        except KafkaException as exception:
            report = Tried(self._batch.number, error=error_of(exception))
        self._tell(report)

    def _try(self) -> Tried:
        producer = self._make_producer(self._timeout_s)
        if self._transactional:
            producer.init_transactions(_INIT_S)
            producer.begin_transaction()
        sending = Sending(
            producer,
            self._batch.records,
            allowed_s=self._allowed_s,
            together=False,
            bounded=_call,
            clock=self._clock,
        )
        sending.produce()
        sending.confirm()
        failed = dict(sending.failed)
        if self._transactional:
            broken = broken_by(producer) if failed and not sending.culprits else None
            if broken is not None and broken.code() in TOPIC_ERRORS:
                failed = dict.fromkeys(range(len(self._batch.records)), broken)
            self._take_back(producer)
        if not sending.confirmed and not failed:
            return Tried(self._batch.number, error="nobody said what became of the records")
        return Tried(self._batch.number, failed, None, sending.took_s, sending.leaderless)

    def _take_back(self, producer: Producer) -> None:
        # What is left open would hold readers back of partitions that are well.
        try:
            producer.abort_transaction(_ABORT_S)
        except KafkaException as exception:
            log.debug("settle.trial_left_open", error=str(error_of(exception)))


def _call(name: str, limit_s: float, call: Callable[..., object], *args: object) -> object:
    del name, limit_s
    return call(*args)
