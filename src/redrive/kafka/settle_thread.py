"""The settle thread, as the rest of the worker sees it: batches in, reports out, never stuck.

What a batch goes through is `redrive.kafka.producer_thread`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import Queue

import structlog

from redrive.clock import Clock
from redrive.errors import KafkaLostError, KafkaUnavailableError, SettingsError
from redrive.kafka.batches import Batch, Report
from redrive.kafka.producer_thread import CallLimits, MakeProducer, ProducerThread
from redrive.kafka.retrying import with_advice
from redrive.kafka.send_trial import SendTrial
from redrive.telemetry.instruments import Counter
from redrive.telemetry.metrics import PRODUCERS

__all__ = ["SettleThread"]

log = structlog.get_logger("redrive.kafka")


class SettleThread:
    """Makes batches durable, one after the other, and reports on each.

    Args:
        make_producer: Builds a producer; called again after every doubt.
        make_trial_producer: Builds the producer of a trial, which has an identity of its own.
        transactional: False leaves the offsets to the caller (at least once).
        report: Called on a settle thread with what came of each batch; must not block.
        clock: For limits.
        limits: How long each call may take.
        replaced: Where producers that are thrown away are counted.
    """

    def __init__(
        self,
        make_producer: MakeProducer,
        *,
        make_trial_producer: MakeProducer | None = None,
        transactional: bool,
        report: Callable[[Report], None],
        clock: Clock,
        limits: CallLimits | None = None,
        replaced: Counter | None = None,
    ) -> None:
        self._inbox: Queue[Batch | None] = Queue(maxsize=2)
        self._make = partial(
            ProducerThread,
            self._inbox,
            make_producer,
            transactional,
            report,
            clock,
            limits or CallLimits(),
            replaced or Counter(PRODUCERS),
        )
        self._producer_thread = self._make()
        self._abandoned: list[ProducerThread | SendTrial] = []
        self._trial: SendTrial | None = None
        self._make_trial = partial(
            SendTrial,
            make_producer=make_trial_producer or make_producer,
            transactional=transactional,
            report=report,
            clock=clock,
            limits=limits or CallLimits(),
        )

    def start(self, *, timeout_s: float) -> None:
        """Open the first producer, ending what an earlier life of this worker left open.

        Raises:
            KafkaUnavailableError: The broker did not answer within `timeout_s`.
            SettingsError: It refuses this producer, and waiting would not help.
        """
        self._producer_thread.start(recover=None, first=True)
        answered = self._producer_thread.ready.wait(timeout_s)
        if self._producer_thread.died is not None:
            raise self._producer_thread.died
        if self._producer_thread.refusal is not None:
            raise SettingsError(
                f"Kafka refuses the worker's producer: {with_advice(self._producer_thread.refusal)}"
            )
        if not answered:
            self._producer_thread.abandon()
            raise KafkaUnavailableError(
                f"no transaction coordinator answered within {timeout_s:g} s; last: "
                f"{self._producer_thread.last_error or 'no answer'}"
            )

    def submit(self, batch: Batch) -> None:
        """Take on one batch; the next may follow once its report has come."""
        self._inbox.put_nowait(batch)

    def try_out(self, batch: Batch) -> None:
        """Find out whether records could be stored; the next trial may follow upon its report."""
        if self._trial is not None and self._trial.is_alive:
            self._abandoned = [*(each for each in self._abandoned if each.is_alive), self._trial]
        self._trial = self._make_trial(batch)
        self._trial.start()

    def watch(self) -> None:
        """Abandon a call that has outlived its limit; to be called often, from another thread."""
        if self._trial is not None:
            self._trial.watch()
        if self._producer_thread.died is not None:
            raise KafkaLostError(
                f"the settle thread has died of {self._producer_thread.died!r}"
            ) from self._producer_thread.died
        stuck = self._producer_thread.stuck()
        if stuck is None:
            return
        log.error("settle.call_abandoned", call=stuck)
        self._replace(f"{stuck} did not return within its limit")

    def renew(self) -> None:
        """Open a new producer, since the one there may be fenced. [P1].

        What it was doing is left to whoever reads the committed offsets after that.
        """
        self._replace("the worker has joined its group anew")

    def _replace(self, why: str) -> None:
        old = self._producer_thread
        self._abandoned = [*(each for each in self._abandoned if each.is_alive), old]
        self._producer_thread = self._make()
        self._producer_thread.start(recover=old.abandon(why))

    @property
    def left_behind(self) -> int:
        """How many abandoned calls still hang, each with its thread and its producer's.

        Nothing in this process can end them. May be read from any thread.
        """
        return sum(each.is_alive for each in self._abandoned)

    @property
    def is_open(self) -> bool:
        """Whether a producer is there that can take a batch on; may be read from any thread."""
        return self._producer_thread.is_open

    def trouble(self, *, for_s: float) -> str | None:
        """Say why nothing can be settled any more, or has not moved for so many seconds.

        A call that outlives its limit is abandoned by `watch`, and only then no trouble any more.
        """
        producer_thread = self._producer_thread
        if producer_thread.died is not None:
            return f"the settle thread has died of {type(producer_thread.died).__name__}"
        stuck = producer_thread.stuck(for_s=for_s)
        return None if stuck is None else f"{stuck} does not return"

    def close(self, *, timeout_s: float) -> None:
        """Let the thread end; what it has not begun is dropped."""
        self._inbox.put_nowait(None)
        self._producer_thread.join(timeout_s)
        self._producer_thread.abandon()
        # Who still waits in `start` is asked to stop.
        self._producer_thread.ready.set()
