"""When the ids of topics are asked for, and which answers are believed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from redrive.consumer.buffer import Buffer
from redrive.consumer.lately import CROWDED
from redrive.consumer.partitions import Partitions
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.kafka.topic_ids import BrokersTopicIds, IdsAsOf
from redrive.testing.manual_clock import ManualClock

PLACE = TopicPartition("events", 0)
EVERY_S = 10.0
OLD, NEW = b"o" * 16, b"n" * 16


class Admin:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked: list[Future[Any]] = []

    def describe_topics(self, *_: object, **__: object) -> Mapping[str, Future[Any]]:
        self.asked.append(Future())
        return {PLACE.topic: self.asked[-1]}

    def answer(self, topic_id: bytes) -> None:
        text = base64.b64encode(topic_id).decode().rstrip("=")
        self.asked[-1].set_result(SimpleNamespace(topic_id=text, partitions=[]))


def asking() -> tuple[Admin, ManualClock, BrokersTopicIds]:
    admin, clock = Admin(), ManualClock()
    make: Callable[[], Any] = lambda: admin  # noqa: E731 - typed
    return admin, clock, BrokersTopicIds(make, every_s=EVERY_S, clock=clock)


def test_ids_are_asked_for_now_and_then_and_sooner_where_that_is_wanted() -> None:
    admin, clock, ids = asking()

    asked = []
    for _ in range(30):
        clock.advance(1.0)
        asked.append(clock.monotonic())
        # From the 12th second on, records come in.
        within_s = {} if clock.monotonic() < 12 else {"within_s": 2.0}
        ids.look([PLACE.topic], **within_s)
        if admin.asked and not admin.asked[-1].done():
            admin.answer(OLD)
            assert ids.look([PLACE.topic], **within_s) == IdsAsOf({PLACE.topic: OLD}, asked[-1])
        else:
            asked.pop()

    assert asked == [10.0, *range(12, 31, 2)]


@pytest.mark.invariant("P2")
def test_an_answer_that_may_be_older_than_another_is_not_believed() -> None:
    admin, clock, ids = asking()
    clock.advance(EVERY_S)
    ids.look([PLACE.topic])
    waiting = admin.asked[-1]

    def answer_at_once(*_: object, **__: object) -> Mapping[str, Future[Any]]:
        Admin.describe_topics(admin)
        admin.answer(NEW)
        return {PLACE.topic: admin.asked[-1]}

    admin.describe_topics = answer_at_once  # type: ignore[method-assign]
    assert ids.ask([PLACE.topic], timeout_s=1.0) == {PLACE.topic: NEW}
    text = base64.b64encode(OLD).decode().rstrip("=")
    waiting.set_result(SimpleNamespace(topic_id=text, partitions=[]))

    # It is asked again at once.
    assert ids.look([PLACE.topic]) == IdsAsOf()
    assert ids.look([PLACE.topic]) == IdsAsOf({PLACE.topic: NEW}, clock.monotonic())


class Kafka:
    """A topic with an id, and no commits; notes how soon its id is wanted."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.wanted: list[float] = []

    def committed(self, tps: Any, **_: object) -> dict[TopicPartition, Committed]:  # noqa: ANN401
        return dict.fromkeys(tps, Committed(None, None))

    def ends(self, tps: Any, **_: object) -> dict[TopicPartition, int]:  # noqa: ANN401 - a stand-in
        return dict.fromkeys(tps, 0)

    def topic_ids(self, topics: Any, **_: object) -> dict[str, bytes]:  # noqa: ANN401 - a stand-in
        return dict.fromkeys(topics, OLD)

    def changed_ids(self, topics: Any, *, within_s: float) -> IdsAsOf:  # noqa: ANN401 - a stand-in
        self.wanted.append(within_s)
        return IdsAsOf(dict.fromkeys(topics, OLD), self.clock.monotonic())


def test_an_idle_worker_is_in_no_hurry_for_ids_and_one_with_many_answers_is() -> None:
    clock = ManualClock()
    kafka: Any = Kafka(clock)
    partitions = Partitions(buffer=Buffer(2**20), session_timeout_s=30, incarnation=1, clock=clock)
    partitions.expect([PLACE])
    partitions.read_committed(kafka)

    marks = []
    for first, count in ((0, 0), (0, 1), (1, 0), (1, CROWDED + 1), (CROWDED + 2, 1)):
        clock.advance(1.0)
        offsets = range(first, first + count)
        if count:
            partitions.take([ConsumerRecord(PLACE, at, None, b"x", (), None) for at in offsets])
            partitions.settle({PLACE: offsets})
        snapshot = partitions.snapshot(PLACE)
        marks.append(len(snapshot.marks) if snapshot else None)
        clock.advance(1.0)
        partitions.check_logs(kafka)

    # What was read before the id was confirmed is of the log that it was taken for.
    assert marks == [None, 1, 0, CROWDED + 1, 1]
    assert kafka.wanted == [float("inf"), 2.0, float("inf"), 0.5, 2.0]
