"""A worker of a later version, as far as its records go: `python later.py worker ...`.

It writes all that a later version may add: fields, a header, and bytes behind a commit's note.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer, TopicPartition

from redrive.cli import main
from redrive.kafka.connect import make_producer
from redrive.wiring import parts

ADDED = {"from_a_later_version": {"any": ["thing", 1]}}
HEADER = ("redrive-later", b"\xff not UTF-8")


class LaterProducer:
    def __init__(self, producer: Producer) -> None:
        self._producer: Any = producer

    def produce(
        self, topic: str, *, value: bytes, headers: Sequence[tuple[str, bytes]], **more: object
    ) -> None:
        longer = json.dumps({**json.loads(value), **ADDED}).encode()
        self._producer.produce(topic, value=longer, headers=[*headers, HEADER], **more)

    def send_offsets_to_transaction(self, offsets: Sequence[TopicPartition], *more: object) -> None:
        longer = [
            TopicPartition(one.topic, one.partition, one.offset, appended(one.metadata or ""))
            for one in offsets
        ]
        self._producer.send_offsets_to_transaction(longer, *more)

    def __getattr__(self, name: str) -> object:
        return getattr(self._producer, name)


def appended(note: str) -> str:
    raw = base64.b64decode(note[1:] + "=" * (-len(note[1:]) % 4))
    return note[0] + base64.b64encode(raw + b"\x81\x01later").decode().rstrip("=")


if __name__ == "__main__":
    vars(parts)["make_producer"] = lambda config: LaterProducer(make_producer(config))
    main()
