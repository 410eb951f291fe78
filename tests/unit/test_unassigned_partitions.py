"""Partitions that the group gives to nobody: when it is asked, and what is believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException

from redrive.kafka.log import TopicPartition
from redrive.kafka.unassigned_partitions import UnassignedPartitions
from redrive.testing.manual_clock import ManualClock

STABLE = ConsumerGroupState.STABLE
DIVIDING = ConsumerGroupState.PREPARING_REBALANCING


class Admin:
    """Tells of a topic with three partitions, and of a group; answers when told to."""

    def __init__(self) -> None:
        self.groups: list[Future[Any]] = []

    def describe_topics(self, *_: object, **__: object) -> Mapping[str, Future[Any]]:
        told: Future[Any] = Future()
        told.set_result(
            SimpleNamespace(name="events", partitions=[SimpleNamespace(id=n) for n in range(3)])
        )
        return {"events": told}

    def describe_consumer_groups(self, *_: object, **__: object) -> Mapping[str, Future[Any]]:
        self.groups.append(Future())
        return {"group": self.groups[-1]}

    def answer(self, *members: Sequence[int], state: ConsumerGroupState = STABLE) -> None:
        held = [[SimpleNamespace(topic="events", partition=n) for n in one] for one in members]
        told = [SimpleNamespace(assignment=SimpleNamespace(topic_partitions=one)) for one in held]
        self.groups[-1].set_result(SimpleNamespace(state=state, members=told))


@pytest.fixture
def admin() -> Admin:
    return Admin()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def unassigned(admin: Admin, clock: ManualClock) -> UnassignedPartitions:
    make: Callable[[], Any] = lambda: admin  # noqa: E731 - typed
    return UnassignedPartitions(make, "group", ["events"], clock)


@pytest.mark.invariant("P1")
def test_what_no_member_holds_is_named_until_somebody_does(
    unassigned: UnassignedPartitions, admin: Admin, clock: ManualClock
) -> None:
    unassigned.assigned()
    assert not unassigned.look()
    assert not admin.groups

    clock.advance(2)
    unassigned.look()
    admin.answer([0], [1])
    assert unassigned.look() == {TopicPartition("events", 2)}
    assert not unassigned.look()

    clock.advance(10)
    unassigned.look()
    admin.answer([0, 2], [1])
    assert not unassigned.look()
    clock.advance(1_000)
    unassigned.look()
    assert len(admin.groups) == 2


def test_a_group_that_divides_its_partitions_is_asked_again(
    unassigned: UnassignedPartitions, admin: Admin, clock: ManualClock
) -> None:
    unassigned.assigned()
    clock.advance(2)
    unassigned.look()
    admin.answer([0], state=DIVIDING)

    assert not unassigned.look()
    clock.advance(10)
    unassigned.look()

    assert len(admin.groups) == 2


def test_a_group_that_may_not_be_asked_is_not_asked_before_the_next_assignment(
    unassigned: UnassignedPartitions, admin: Admin, clock: ManualClock
) -> None:
    unassigned.assigned()
    clock.advance(2)
    unassigned.look()
    refused = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    admin.groups[-1].set_exception(refused)

    assert not unassigned.look()
    clock.advance(1_000)
    assert not unassigned.look()
    assert len(admin.groups) == 1
    unassigned.assigned()
    clock.advance(2)
    unassigned.look()
    assert len(admin.groups) == 2
