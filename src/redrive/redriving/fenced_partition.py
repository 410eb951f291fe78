"""The way to one partition of the letters topic, and back to the events: claim, read, commit.

One producer identity belongs to each partition of letters. Who claims it ends whatever its last
owner left open, and shuts that owner out; so what is read after a claim is the truth until the next
claim. [P13]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from redrive.clock import Clock
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.client import ClientConfig, producer_config
from redrive.kafka.connect import make_producer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.partition_log import PartitionLog
from redrive.kafka.producer_thread import broken_by
from redrive.kafka.retrying import Said, error_of, refused, with_advice
from redrive.kafka.sending import RECORD_ERRORS, TOPIC_ERRORS

__all__ = [
    "FencedPartition",
    "InDoubtError",
    "KafkaFencedPartition",
    "RefusedRecordsError",
    "TakenOverError",
]

log = structlog.get_logger(__name__)

_CALL_S = 10.0
_SHUT_OUT = (
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
)


class TakenOverError(Exception):
    """Another actor has claimed the partition: nothing more can be written by this one."""


class InDoubtError(Exception):
    """It is not known whether the last commit happened: claim again, and read."""


class RefusedRecordsError(Exception):
    """Nothing was written: the broker does not take these records, by their index. Claim again."""

    def __init__(self, errors: Mapping[int, str]) -> None:
        super().__init__(f"{len(errors)} record(s) are not taken")
        self.errors = errors


class FencedPartition(Protocol):
    """One partition of letters, as its worker sees it."""

    def claim(self) -> None:
        """Shut everyone else out."""
        ...

    def end(self) -> int:
        """Return where the partition ends now, transactions that are still open included."""
        ...

    def read(self, start: int, stop: int) -> Iterator[ConsumerRecord]:
        """Return what is committed from `start` on and before `stop`.

        An open transaction before `stop` is waited for.
        """
        ...

    def commit(self, records: Iterable[ProducerRecord]) -> None:
        """Write all of these, or none.

        Raises:
            TakenOverError: Another actor has claimed the partition.
            InDoubtError: They may be written or not.
            RefusedRecordsError: None is written: the broker refuses some for what they are.
        """
        ...


class KafkaFencedPartition:
    """A partition on a real broker.

    Args:
        settings: How to reach Kafka.
        partition: Of the letters topic.
        consumer: Reads, of `log_consumer`; one door is read at a time.
        admin: Says where the partition ends.
        max_bytes: The largest record that the topics take, by topic.
        clock: For limits.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        partition: int,
        *,
        consumer: Consumer,
        admin: AdminClient,
        max_bytes: Mapping[str, int],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._place = TopicPartition(settings.dlq_topic, partition)
        self._log = PartitionLog(settings, self._place, consumer=consumer, admin=admin, clock=clock)
        self._max_bytes = max_bytes
        self._clock = clock
        self._limit_s = settings.startup_timeout.total_seconds()
        self._said = Said(settings.bootstrap_servers)
        self._ready: Producer | None = None
        self._producer: Producer | None = None

    def prepare(self) -> None:
        """Connect the producer of the next claim, while there is something else to do.

        Nobody is shut out. A claim by one that is not connected yet can take half a second.
        """
        if self._ready is None:
            self._ready = self._new_producer()

    def claim(self) -> None:
        """Shut everyone else out.

        Raises:
            KafkaUnavailableError: No coordinator answered within `kafka.startup_timeout`.
            SettingsError: The broker refuses this producer.
        """
        self._said.forget()
        # A producer with a failure behind it can hang for ever: each claim makes a new one.
        self._producer = producer = self._ready or self._new_producer()
        self._ready = None
        deadline = self._clock.monotonic() + self._limit_s
        while True:
            left_s = max(0.1, deadline - self._clock.monotonic())
            try:
                producer.init_transactions(left_s)
            except KafkaException as error:
                producer.poll(0)
                if self._said.refusal is not None:
                    raise self._said.refusal from error
                if not error_of(error).retriable() or self._clock.monotonic() >= deadline:
                    raise self._log.silent(with_advice(error_of(error))) from error
            else:
                return

    def end(self) -> int:
        """Return where the partition ends now, transactions that are still open included."""
        return self._log.end()

    def read(self, start: int, stop: int) -> Iterator[ConsumerRecord]:
        """Return what is committed from `start` on and before `stop`.

        What lies beyond a transaction still open is waited for, since it may be what decides.
        """
        return self._log.read(start, stop)

    def commit(self, records: Iterable[ProducerRecord]) -> None:
        """Write all of these, or none.

        Raises:
            TakenOverError: Another actor has claimed the partition.
            InDoubtError: They may be written or not.
            RefusedRecordsError: None is written: the broker refuses some for what they are.
            SettingsError: None is written: this user may not write there.
        """
        assert self._producer is not None  # noqa: S101 - claimed before anything is decided
        producer, failed = self._producer, dict[int, KafkaError]()
        began = self._clock.monotonic()
        try:
            producer.begin_transaction()
            for index, record in enumerate(records):
                _produce(producer, record, index, failed)
            if producer.flush(_CALL_S) == 0 and not failed:
                producer.commit_transaction(_CALL_S)
                return
            not_taken = {i: with_advice(e) for i, e in failed.items() if e.code() in RECORD_ERRORS}
            if not_taken:
                # After an abort, a producer can lose records (decision 22).
                self._producer = None
                producer.abort_transaction(_CALL_S)
                raise RefusedRecordsError(not_taken)
            self._raise_if_forbidden(producer)
        except KafkaException as raised:
            failed[-1] = error_of(raised)
        except SystemError as raised:
            # A fatal error that is told while records are: the client raises it around the callback
            # of the next one, and Python says so.
            if not isinstance(raised.__cause__, KafkaException):
                raise
            failed[-1] = error_of(raised.__cause__)
        told = list(failed.values()) or [KafkaError(KafkaError._TIMED_OUT)]
        self._producer = None
        # A transaction that outlived the broker's limit is shut out by the broker itself.
        lasted_s = self._clock.monotonic() - began
        expired = lasted_s >= self._settings.transaction_timeout.total_seconds()
        if any(error.code() in _SHUT_OUT for error in told) and not expired:
            raise TakenOverError
        log.warning("redrive.claimed_again", partition=self._place.partition, error=told[-1].str())
        raise InDoubtError

    def _new_producer(self) -> Producer:
        kafka = self._settings
        written = (kafka.events_topic, self._place.topic, kafka.audit_topic)
        limits = [self._max_bytes[topic] for topic in written if topic is not None]
        config = producer_config(
            self._settings,
            transactional_id=f"redrive.{self._place.topic}.{self._place.partition}",
            max_message_bytes=max(limits),
            max_batch_bytes=min(limits),
        )
        # What is not told of was stored: the commit says so.
        only_errors: ClientConfig = {"delivery.report.only.error": True}
        return make_producer({**config, **only_errors}, on_error=self._said)

    def _raise_if_forbidden(self, producer: Producer) -> None:
        broken = broken_by(producer)
        if broken is None or broken.code() not in TOPIC_ERRORS:
            return
        self._producer = None
        # Where no partition was let in, there is no transaction to abort, and the broker says so.
        with suppress(KafkaException):
            producer.abort_transaction(_CALL_S)
        raise refused(self._settings.bootstrap_servers, broken)


def _produce(
    producer: Producer, record: ProducerRecord, index: int, failed: dict[int, KafkaError]
) -> None:
    topic, key, value, headers, partition = record
    while True:
        try:
            producer.produce(
                topic,
                value,
                key,
                -1 if partition is None else partition,
                partial(_note, failed, index),
                headers=list(headers),
            )
        except BufferError:
            producer.poll(0.1)
        except KafkaException as raised:
            # What the client itself refuses, such as a record that is too large.
            if error_of(raised).code() not in RECORD_ERRORS:
                raise
            failed[index] = error_of(raised)
            return
        else:
            return


def _note(failed: dict[int, KafkaError], index: int, error: KafkaError | None, _: Message) -> None:
    if error is not None:
        failed[index] = error
