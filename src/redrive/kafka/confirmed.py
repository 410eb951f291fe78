"""A producer for asyncio programs: a record counts once the broker has confirmed it.

One thread polls it for delivery reports. A worker writes through its transactions
(`redrive.kafka.producer_thread`) and uses none of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from datetime import timedelta

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError, NotStoredError
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.kafka.existing import partitions_of
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.publish import (
    GRACE_S,
    NO_ANSWER,
    TOO_LARGE,
    MakeProducer,
    Published,
    place_of,
)
from redrive.kafka.retrying import is_permanent, with_advice

__all__ = ["ConfirmedProducer"]

_ANY_PARTITION = -1
_POLL_S = 0.1
_QUEUE_FULL_S = 0.05
_NEXT_PRODUCER_S = 1.0
_SAYS_LITTLE = frozenset(
    {
        KafkaError._DESTROY,
        KafkaError._FATAL,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._PURGE_QUEUE,
    }
)
# The topic decides what is too large: its limit need not be readable for this user.
_LARGEST_BYTES = 64 * 2**20
# The broker measures whole batches with that limit.
_BATCH_BYTES = 64 * 2**10
_Report = tuple[KafkaError | None, Message]


class ConfirmedProducer:
    """Stores records on one topic, for one event loop; idempotent, acks=all.

    Args:
        settings: How to reach Kafka.
        topic: Where all records go.
        timeout: How long a record may take, and stopping too.
        clock: For waits.
        make: Makes the producer.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        topic: str,
        timeout: timedelta,
        clock: Clock = SYSTEM,
        make: MakeProducer = make_producer,
    ) -> None:
        self.topic = topic
        self.partitions: frozenset[int] = frozenset()
        self._settings = settings
        self._timeout_s = timeout.total_seconds()
        self._clock = clock
        self._make = make
        self._producer: Producer | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._pending: set[asyncio.Future[_Report]] = set()
        self._said: KafkaError | None = None
        self._broken = False

    async def start(self) -> None:
        """Look whether the topic is there, and make the producer; a second call changes nothing.

        Raises:
            KafkaUnavailableError: No broker answered within `kafka.startup_timeout`.
            SettingsError: The topic does not exist, an option cannot work, or the broker refuses
                who we say we are.
        """
        if self._thread is None:
            self.partitions = await asyncio.to_thread(
                partitions_of, self._settings, self.topic, clock=self._clock
            )
            self.open()

    def open(self) -> None:
        """Make the producer, without asking any broker.

        Raises:
            SettingsError: An option cannot work.
        """
        self._producer = self._new_producer()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._serve, name="redrive-confirmed", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Wait for what is under way, no longer than the timeout, and close."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._pending:
            await asyncio.wait(self._pending, timeout=self._timeout_s + GRACE_S)
        self._stopping.set()
        await asyncio.to_thread(thread.join, self._timeout_s)
        self._producer = None

    async def store(
        self, record: ProducerRecord, *, what: str, smaller: Sequence[ProducerRecord] = ()
    ) -> Published:
        """Return where the broker stored `record`.

        Args:
            record: What to store.
            what: How errors call it.
            smaller: What is tried instead, in turn, when `record` is too large for its topic.

        Raises:
            KafkaUnavailableError: It was not confirmed in time; it may be stored all the same.
            NotStoredError: The broker refused it, or this is not started.
        """
        try:
            return await self._confirmed(record)
        except KafkaException as refused:
            error = refused.args[0]
            if not smaller or error.code() not in TOO_LARGE:
                raise self._failed(what, error) from refused
        return await self.store(smaller[0], what=what, smaller=smaller[1:])

    async def _confirmed(self, record: ProducerRecord) -> Published:
        future: asyncio.Future[_Report] = asyncio.get_running_loop().create_future()
        self._pending.add(future)
        try:
            await self._produce(record, future)
            # librdkafka keeps the time; this is for a report that never comes.
            error, message = await asyncio.wait_for(future, self._timeout_s + GRACE_S)
        except TimeoutError as silent:
            raise _kafka_error(KafkaError._MSG_TIMED_OUT, "no delivery report") from silent
        finally:
            self._pending.discard(future)
        if error is not None:
            raise KafkaException(error)
        self._said = None
        return place_of(self.topic, message)

    async def _produce(self, record: ProducerRecord, future: asyncio.Future[_Report]) -> None:
        loop = asyncio.get_running_loop()
        deadline = self._clock.monotonic() + self._timeout_s

        def report(error: KafkaError | None, message: Message) -> None:
            # The loop may have closed: then nobody waits for this.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, future, (error, message))

        while True:
            if self._thread is None or self._producer is None:
                raise _kafka_error(KafkaError._STATE, "this is not started: call start() first")
            try:
                self._producer.produce(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=_ANY_PARTITION if record.partition is None else record.partition,
                    on_delivery=report,
                )
            except BufferError as full:
                if self._clock.monotonic() > deadline:
                    raise _kafka_error(KafkaError._QUEUE_FULL, "too many wait already") from full
                await self._clock.sleep(_QUEUE_FULL_S)
            else:
                return

    def _new_producer(self) -> Producer:
        options = producer_config(
            self._settings, max_message_bytes=_LARGEST_BYTES, max_batch_bytes=_BATCH_BYTES
        )
        # The user's own value, where there is one, is for a record: the caller's timeout is ours.
        options["message.timeout.ms"] = max(1, round(self._timeout_s * 1000))
        return self._make(options, on_error=self._heard)

    def _serve(self) -> None:
        while not self._stopping.is_set() and self._producer is not None:
            try:
                self._producer.poll(_POLL_S)
            except KafkaException as error:
                self._heard(error.args[0])
                self._broken = True
            if self._broken:
                self._replace(self._producer)

    def _replace(self, broken: Producer) -> None:
        """Go on with a new producer: a fatal error ends the one that met it."""
        self._broken = False
        self._producer = self._new_producer()
        broken.purge()
        # What it had taken on is told as not stored. A poll after a fatal error raises it again.
        with contextlib.suppress(KafkaException):
            broken.poll(_POLL_S)
        # What ended this one may end the next: a right that is missing, say.
        self._stopping.wait(_NEXT_PRODUCER_S)

    def _heard(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = True
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._said = error

    def _failed(self, what: str, error: KafkaError) -> KafkaUnavailableError | NotStoredError:
        where = f"on {self.topic!r} at {self._settings.bootstrap_servers}"
        if error.code() in NO_ANSWER:
            why = with_advice(self._said or error)
            return KafkaUnavailableError(
                f"{what} was not confirmed {where} within {self._timeout_s:g} s: {why}. Check the "
                "address, and that the broker is up; storing it again is safe"
            )
        if error.code() in _SAYS_LITTLE:
            error = self._said or error
        if error.code() == KafkaError._DESTROY:
            # Nobody has closed the client: it lets go of a topic with what is on its way there.
            error = KafkaError(KafkaError._UNKNOWN_TOPIC, "the topic went meanwhile")
        kind = "permanent" if is_permanent(error) else "transient"
        return NotStoredError(f"{what} is not stored {where}: {with_advice(error)}", kind=kind)


def _kafka_error(code: int, text: str) -> KafkaException:
    return KafkaException(KafkaError(code, text))


def _resolve(future: asyncio.Future[_Report], report: _Report) -> None:
    if not future.done():
        future.set_result(report)
