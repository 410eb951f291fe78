"""The broker inside the confluent-kafka wheel (librdkafka's mock cluster): a demo without a server.

Nothing about exactly-once can be shown on it: a real one for tests is `redrive.testing.broker`.
"""

from __future__ import annotations

import logging
from typing import Self

from confluent_kafka import KafkaException, Producer

from redrive.errors import KafkaUnavailableError
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_rules import topic_names

__all__ = ["EmbeddedBroker"]

_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """A broker that lives as long as this object, in this process, on loopback.

    Groups, offsets with their metadata, headers and idempotent producers work, from other
    processes too. What it lacks: transactions do nothing (aborted records are read, offsets sent
    to a transaction are lost, zombies are not fenced), so workers on it run with
    `delivery = at_least_once`, and of two redrives at once none is shut out; admin calls other than
    listing topics and offsets time out; every topic has 4 partitions of at most 5 MiB, and the
    oldest records go, read or not; nothing outlives the process.

    Args:
        settings: Names the topics to create; its address is not used.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._topics = topic_names(settings)
        self._producer: Producer | None = None
        self._address = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """Where it listens, `127.0.0.1:port`; empty before the start."""
        return self._address

    def settings(self, given: KafkaSettings) -> KafkaSettings:
        """Return `given` with the address of this broker, and what it asks of its clients."""
        # A waiting fetch does not wake up for new data here. Security cannot be had.
        config = {"fetch.wait.max.ms": "10"}
        return given.model_copy(
            update={"bootstrap_servers": self.bootstrap_servers, "config": config}
        )

    def start(self) -> None:
        """Start it and create the topics.

        Raises:
            KafkaUnavailableError: It did not come up; a defect of the installation.
        """
        log = logging.getLogger("redrive.kafka.librdkafka")
        # Its log says only that it is a mock cluster, at a level above a warning.
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 3}, logger=log)
        try:
            broker = next(iter(self._producer.list_topics(timeout=_TIMEOUT_S).brokers.values()))
            for topic in self._topics:
                # Asking for a topic creates it, with 4 partitions.
                self._producer.list_topics(topic, timeout=_TIMEOUT_S)
        except KafkaException as error:
            self.stop()
            raise KafkaUnavailableError(
                f"the broker inside the confluent-kafka wheel did not start: {error.args[0].str()}"
            ) from error
        self._address = f"{broker.host}:{broker.port}"

    def stop(self) -> None:
        """End it, and with it all its records."""
        self._producer = None
        self._address = ""
