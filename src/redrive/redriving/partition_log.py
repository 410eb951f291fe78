"""One partition as those read it who must know all of it: open transactions are waited for."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not marked as exported

from redrive.clock import Clock
from redrive.errors import KafkaUnavailableError
from redrive.kafka.log import Place, Record, record_of
from redrive.kafka.options import KafkaSettings
from redrive.kafka.retrying import error_of, with_advice

__all__ = ["PartitionLog"]

_BATCH = 500
_POLL_S = 0.2
_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's own codes begin with a line


class PartitionLog:
    """What one partition holds.

    Args:
        settings: How to reach Kafka.
        place: Which partition.
        consumer: Reads, of `redrive.redriving.door.door_consumer`; one partition is read at a time.
        admin: Says where the partition ends.
        clock: For limits.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        place: Place,
        *,
        consumer: Consumer,
        admin: AdminClient,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._place = place
        self._consumer = consumer
        self._admin = admin
        self._clock = clock
        self._limit_s = settings.startup_timeout.total_seconds()

    def end(self) -> int:
        """Return where the partition ends now, transactions that are still open included.

        Raises:
            KafkaUnavailableError: The broker does not say.
        """
        wanted = TopicPartition(*self._place)
        asked = self._admin.list_offsets(
            {wanted: OffsetSpec.latest()},  # type: ignore[no-untyped-call]  # the client's own
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self._limit_s,
        )
        try:
            return int(asked[wanted].result().offset)
        except KafkaException as error:
            raise self.silent(with_advice(error_of(error))) from error

    def read(self, start: int, stop: int) -> Iterator[Record]:
        """Return what is committed from `start` on and before `stop`.

        What lies beyond a transaction still open is waited for, since it may be what decides.

        Raises:
            KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        """
        if start >= stop:
            return
        consumer = self._consumer
        consumer.assign([TopicPartition(*self._place, start)])
        patience, last = self._clock.monotonic() + self._limit_s, "no answer"
        while True:
            first = consumer.poll(_POLL_S)
            if first is None and self._clock.monotonic() > patience:
                number = self._place.partition
                raise self.silent(f"partition {number} is not read to {stop}; last: {last}")
            for message in (*([first] if first else ()), *consumer.consume(_BATCH, 0)):
                error = message.error()
                if error is not None and error.code() != _EOF:
                    last = with_advice(error)
                    continue
                patience = self._clock.monotonic() + self._limit_s
                if (message.topic(), message.partition()) != self._place:
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
