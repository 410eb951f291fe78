"""A producer for asyncio against clients that fail; the real broker is in tests/kafka."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from redrive.errors import KafkaUnavailableError, NotStoredError
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.confirmed import ConfirmedProducer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.testing.worker_process import wait_until

SETTINGS = KafkaSettings(bootstrap_servers="broker:9092")
RECORD = ProducerRecord("letters", b"key", b"value")
FENCED = KafkaError(KafkaError.INVALID_PRODUCER_EPOCH, "the epoch is old", fatal=True)
NO_RIGHT = KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "not allowed", fatal=True)
GONE = KafkaError(KafkaError._DESTROY)
PURGED = KafkaError(KafkaError._PURGE_QUEUE)


class Stored:
    """Stands in for the message of a delivery report."""

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 17


class Client:
    """Stands in for librdkafka's producer: fails as it is told, else stores."""

    def __init__(
        self, on_error: Callable[[KafkaError], None], trouble: KafkaError | str | None
    ) -> None:
        self._on_error = on_error
        # To compare an error with a text fails.
        self._fatal = trouble if isinstance(trouble, KafkaError) else None
        self._trouble = None if isinstance(trouble, KafkaError) else trouble
        self._lock = threading.Lock()
        self._taken: list[Callable[..., None]] = []
        self._full = 2 if self._trouble == "full" else 0

    def produce(self, _: str, *, on_delivery: Callable[..., None], **__: object) -> None:
        if self._full:
            self._full -= 1
            raise BufferError("Local: Queue full")
        with self._lock:
            self._taken.append(on_delivery)

    def poll(self, timeout: float) -> None:
        if self._fatal is not None:
            if self._taken:
                self._on_error(self._fatal)
            threading.Event().wait(timeout / 10)
        elif self._trouble == "silent":
            threading.Event().wait(timeout / 10)
        elif self._trouble == "topic gone":
            self._report(GONE, None)
            threading.Event().wait(timeout / 100)
        else:
            self._report(None, Stored())
            threading.Event().wait(timeout / 100)

    def purge(self) -> None:
        self._report(PURGED, None)

    def _report(self, error: KafkaError | None, message: Stored | None) -> None:
        with self._lock:
            taken, self._taken = self._taken, []
        for on_delivery in taken:
            on_delivery(error, message)


class Clients:
    """Makes clients: one for each trouble, then such as store."""

    def __init__(self, *troubles: KafkaError | str) -> None:
        self._troubles = list(troubles)
        self.made = 0

    def make(self, config: Mapping[str, object], *, on_error: Callable[[KafkaError], None]) -> Any:  # noqa: ANN401 - stands in for a Producer
        del config
        self.made += 1
        return Client(on_error, self._troubles.pop(0) if self._troubles else None)


def opened(clients: Clients, *, timeout_s: float = 5) -> ConfirmedProducer:
    producer = ConfirmedProducer(
        SETTINGS, topic="letters", timeout=timedelta(seconds=timeout_s), make=clients.make
    )
    producer.open()
    return producer


@pytest.mark.parametrize("fatal", [FENCED, NO_RIGHT])
async def test_after_a_fatal_error_the_record_is_refused_with_the_cause_and_a_new_client_goes_on(
    fatal: KafkaError,
) -> None:
    clients = Clients(fatal)
    producer = opened(clients)

    with pytest.raises(NotStoredError, match=fatal.str()):
        await producer.store(RECORD, what="letter 1")
    place = await producer.store(RECORD, what="letter 2")
    await producer.stop()

    assert (place.partition, place.offset) == (3, 17)
    assert clients.made == 2


async def test_a_topic_that_goes_while_a_record_is_on_its_way_is_told_with_what_to_do() -> None:
    producer = opened(Clients("topic gone"))

    with pytest.raises(NotStoredError, match=r"letters.*redrive topics create") as refused:
        await producer.store(RECORD, what="letter 1")
    await producer.stop()

    assert refused.value.__redrive_kind__ == "transient"


async def test_a_full_queue_is_waited_for() -> None:
    producer = opened(Clients("full"))

    place = await producer.store(RECORD, what="letter 1")
    await producer.stop()

    assert place.offset == 17


async def test_one_whose_client_says_nothing_is_told_as_not_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redrive.kafka.confirmed.GRACE_S", 0.1)
    producer = opened(Clients("silent"), timeout_s=0.1)

    with pytest.raises(KafkaUnavailableError, match="letter 1 was not confirmed"):
        await producer.store(RECORD, what="letter 1")
    await producer.stop()


async def test_giving_up_the_wait_disturbs_nobody() -> None:
    producer = opened(Clients("silent"))
    waiting = asyncio.create_task(producer.store(RECORD, what="letter 1"))
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await producer.stop()


async def test_a_client_that_raises_while_it_is_polled_is_replaced() -> None:
    class Raises(Client):
        def poll(self, timeout: float) -> None:
            del timeout
            raise KafkaException(FENCED)

    class First(Clients):
        def make(
            self, config: Mapping[str, object], *, on_error: Callable[[KafkaError], None]
        ) -> Any:  # noqa: ANN401 - as above
            made = super().make(config, on_error=on_error)
            return Raises(on_error, None) if self.made == 1 else made

    clients = First()
    producer = opened(clients)

    await asyncio.to_thread(
        wait_until, lambda: clients.made == 2, timeout_s=10, what="a new client"
    )
    place = await producer.store(RECORD, what="letter 1")
    await producer.stop()

    assert place.offset == 17
