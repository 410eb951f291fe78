"""Events at a steady pace while something else happens, and how long each took to be answered."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from redrive.clock import SYSTEM
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.testing.judging import Evidence
from redrive.testing.kafka_env import KafkaEnv

__all__ = ["Sent", "latencies_ms", "p99", "sending"]


class Sent:
    """What was sent so far: when, by the id of the event; and the error that ended it."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.error: BaseException | None = None

    def count(self) -> int:
        """Return how many were sent."""
        if self.error is not None:
            raise self.error
        return len(self.at)


@contextmanager
def sending(env: KafkaEnv, make: Callable[[], WorkflowEvent], *, a_second: float) -> Iterator[Sent]:
    """Send an event every `1 / a_second` seconds for as long as the block lasts."""
    sent, end = Sent(), threading.Event()
    thread = threading.Thread(target=_send, args=(env, make, 1 / a_second, sent, end))
    thread.start()
    try:
        yield sent
    finally:
        end.set()
        thread.join()
    sent.count()


def latencies_ms(evidence: Evidence) -> dict[str, int]:
    """Return by event the time from its record to that of its result, by their timestamps."""
    begun = {}
    for record in evidence.events:
        begun[WorkflowEvent.from_bytes(record.value).event_id] = record.timestamp_ms or 0
    took = {}
    for record in evidence.results:
        event_id = WorkflowResultEvent.from_bytes(record.value).correlation_id
        took[event_id] = (record.timestamp_ms or 0) - begun[event_id]
    return took


def p99(took_ms: Mapping[str, int], of: Sequence[str]) -> int:
    """Return what 99 % of these events did not exceed, in milliseconds."""
    taken = sorted(took_ms[event_id] for event_id in of)
    return taken[math.ceil(0.99 * len(taken)) - 1]


def _send(
    env: KafkaEnv,
    make: Callable[[], WorkflowEvent],
    every_s: float,
    sent: Sent,
    end: threading.Event,
) -> None:
    try:
        producer = make_producer(producer_config(env.kafka_settings()))
        due = SYSTEM.monotonic()
        while not end.wait(max(due - SYSTEM.monotonic(), 0.0)):
            event = make()
            producer.produce(env.topics.events, event.to_bytes(), event.event_id)
            producer.poll(0)
            sent.at[event.event_id] = SYSTEM.monotonic()
            due += every_s
        left = producer.flush(30)
        sent.error = TimeoutError(f"{left} records were not stored in 30 s") if left else None
    except BaseException as error:  # noqa: BLE001 - a thread's edge: `count` raises it
        sent.error = error
