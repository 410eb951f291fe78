"""One partition as those read it who must know all of it: open transactions are waited for."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not marked as exported

from redrive.clock import Clock
from redrive.errors import KafkaUnavailableError
from redrive.kafka.client import READ_AHEAD, ClientConfig, reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord, TopicPartition, record_of
from redrive.kafka.retrying import error_of, with_advice

__all__ = ["PartitionLog", "log_consumer"]

_BATCH = 500
_POLL_S = 0.2
# The next partition waits for the last one's fetch, which found no more.
_SOON: ClientConfig = {"fetch.wait.max.ms": 10}
_EOF = KafkaError._PARTITION_EOF


def log_consumer(settings: KafkaSettings) -> Consumer:
    """Return what partitions are read with, one at a time. Close it.

    Raises:
        SettingsError: The client's options cannot work.
    """
    return make_consumer({**reader_config(settings, partition_eof=True), **READ_AHEAD, **_SOON})


class PartitionLog:
    """What one partition holds.

    Args:
        settings: How to reach Kafka.
        tp: Which partition.
        consumer: Reads, of `log_consumer`; one partition is read at a time.
        admin: Says where the partition ends.
        clock: For limits.
        limit_s: For so many seconds nothing more may come; by default `kafka.startup_timeout`.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        tp: TopicPartition,
        *,
        consumer: Consumer,
        admin: AdminClient,
        clock: Clock,
        limit_s: float | None = None,
    ) -> None:
        self._settings = settings
        self._tp = tp
        self._consumer = consumer
        self._admin = admin
        self._clock = clock
        self._limit_s = limit_s or settings.startup_timeout.total_seconds()

    def end(self) -> int:
        """Return where the partition ends now, transactions that are still open included.

        Raises:
            KafkaUnavailableError: The broker does not say.
        """
        return self._listed(OffsetSpec.latest())  # type: ignore[no-untyped-call]  # the client's own

    def offset_at(self, at_ms: int) -> int | None:
        """Return the first offset that bears this time or a later one; None where there is none.

        Raises what `end` raises.
        """
        offset = self._listed(OffsetSpec.for_timestamp(at_ms))
        return offset if offset >= 0 else None

    def _listed(self, spec: OffsetSpec) -> int:
        wanted = KafkaTopicPartition(*self._tp)
        asked = self._admin.list_offsets(
            {wanted: spec},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self._limit_s,
        )
        try:
            return int(asked[wanted].result().offset)
        except KafkaException as error:
            raise self.silent(with_advice(error_of(error))) from error

    def read(self, start: int, stop: int) -> Iterator[ConsumerRecord]:
        """Return what is committed from `start` on and before `stop`.

        What lies beyond a transaction still open is waited for, since it may be what decides.

        Raises:
            KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        """
        if start >= stop:
            return
        consumer = self._consumer
        consumer.assign([KafkaTopicPartition(*self._tp, start)])
        patience, last = self._clock.monotonic() + self._limit_s, "no answer"
        while True:
            first = consumer.poll(_POLL_S)
            if first is None and self._clock.monotonic() > patience:
                number = self._tp.partition
                raise self.silent(f"partition {number} is not read to {stop}; last: {last}")
            for message in (*([first] if first else ()), *consumer.consume(_BATCH, 0)):
                error = message.error()
                if error is not None and error.code() != _EOF:
                    last = with_advice(error)
                    continue
                patience = self._clock.monotonic() + self._limit_s
                if (message.topic(), message.partition()) != self._tp:
                    continue
                if (message.offset() or 0) >= stop:
                    return
                if error is None:
                    record = record_of(message)
                    yield record
                    if record.offset + 1 >= stop:
                        return

    def silent(self, why: str) -> KafkaUnavailableError:
        """Return the error that says that nothing more can be done here."""
        return KafkaUnavailableError(
            f"Kafka at {self._settings.bootstrap_servers} did not let the letters of "
            f"{self._settings.dlq_topic!r} be worked on within {self._limit_s:g} s: {why}. "
            "Check the address, and that it is up"
        )
