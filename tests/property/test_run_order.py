"""Lanes and dues against the promises that they keep."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.state.delay_queue import DelayQueue
from redrive.state.key_ordered_queue import KeyOrderedQueue

items = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdef")), max_size=60)


@pytest.mark.invariant("P9")
@given(items, st.data())
def test_items_of_one_thread_start_in_order_and_never_together(
    arrivals: list[tuple[int, str]], data: st.DataObject
) -> None:
    ordered: KeyOrderedQueue[tuple[int, str, int]] = KeyOrderedQueue()
    for number, (partition, thread) in enumerate(arrivals):
        ordered.put(partition, thread, (partition, thread, number))
    started: dict[tuple[int, str], list[int]] = defaultdict(list)
    running: list[tuple[int, str]] = []

    while len(ordered) or running:
        item = ordered.take()
        if item is not None:
            partition, thread, number = item
            assert (partition, thread) not in running
            running.append((partition, thread))
            started[partition, thread].append(number)
        if running and (item is None or data.draw(st.booleans())):
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            ordered.release(*ended)

    assert all(numbers == sorted(numbers) for numbers in started.values())
    assert sum(map(len, started.values())) == len(arrivals)


@pytest.mark.invariant("P7")
def test_partitions_take_turns_however_much_waits_in_one() -> None:
    ordered: KeyOrderedQueue[int] = KeyOrderedQueue()
    for number in range(100):
        ordered.put(0, f"t{number}", 0)
    for number in range(3):
        ordered.put(1, f"t{number}", 1)

    assert [ordered.take() for _ in range(6)] == [0, 1, 0, 1, 0, 1]


@pytest.mark.invariant("P11")
def test_a_partition_has_no_more_open_than_its_limit() -> None:
    ordered: KeyOrderedQueue[int] = KeyOrderedQueue(max_open=2)
    for number in range(5):
        ordered.put(0, f"t{number}", number)

    taken = [ordered.take() for _ in range(3)]
    ordered.release(0, "t0")

    assert taken == [0, 1, None]
    assert ordered.take() == 2


def test_what_is_dropped_never_starts() -> None:
    ordered: KeyOrderedQueue[int] = KeyOrderedQueue()
    ordered.put(0, "t", 0)
    ordered.put(1, "t", 1)

    ordered.drop(0)
    ordered.release(0, "t")

    assert [ordered.take(), ordered.take()] == [1, None]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers())))
def test_what_is_due_comes_by_due_time_and_equal_times_in_order(
    given_items: list[tuple[float, int]],
) -> None:
    delayed: DelayQueue[tuple[float, int, int]] = DelayQueue()
    for order, (due, value) in enumerate(given_items):
        delayed.put(due, (due, order, value))

    taken = []
    while (item := delayed.take(100.0)) is not None:
        taken.append(item)

    assert taken == sorted(taken, key=lambda item: item[:2])
    assert len(taken) == len(given_items)


def test_nothing_is_taken_before_it_is_due() -> None:
    delayed: DelayQueue[str] = DelayQueue()
    delayed.put(10.0, "a")

    assert delayed.next_due == 10.0
    assert delayed.take(9.99) is None
    assert delayed.take(10.0) == "a"


def test_what_is_gone_is_taken_out() -> None:
    delayed: DelayQueue[int] = DelayQueue()
    for number in range(6):
        delayed.put(float(number), number)

    assert sorted(delayed.drop(lambda number: number % 2 == 0)) == [0, 2, 4]
    assert [delayed.take(10.0) for _ in range(4)] == [1, 3, 5, None]
