"""A channel's thread: what hangs or refuses delays nobody, and what is dropped is told later."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from redrive.clock import SYSTEM
from redrive.errors import NotifyError
from redrive.notify.message import Lost, Message, MessageLevel
from redrive.notify.sender import MOST_HANGING, MOST_WAITING, Sender
from redrive.retry.retry_config import RetryConfig
from redrive.testing.worker_process import wait_until

ONCE = RetryConfig(max_retries=0)
TWICE = RetryConfig(max_retries=1, initial_delay=0.001, max_delay=0.001)


class Sink:
    """Keeps what it gets; refuses so many first, or hangs until it is let go."""

    def __init__(self, *, refuse: int = 0) -> None:
        self.got: list[Message] = []
        self.calls = 0
        self.refuse = refuse
        self.go_on = threading.Event()
        self.go_on.set()

    def send(self, message: Message) -> None:
        self.calls += 1
        self.go_on.wait()
        if self.refuse:
            self.refuse -= 1
            raise NotifyError("answered 500")
        self.got.append(message)


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.go_on.set()


def sender_to(sink: Sink, config: RetryConfig = ONCE, *, limit_s: float = 5.0) -> Sender:
    sender = Sender("team", sink, limit_s=limit_s, clock=SYSTEM, config=config)
    sender.start()
    return sender


def message(number: int, *, failures: int = 1) -> Message:
    return Message(f"message {number}", "body", MessageLevel.FAILURE, failures)


def titles(sink: Sink) -> list[str]:
    return [one.title for one in sink.got]


def test_messages_are_sent_in_order_and_one_that_is_refused_is_tried_again(sink: Sink) -> None:
    sink.refuse = 1
    sender = sender_to(sink, TWICE)

    for number in range(3):
        sender.offer(message(number))
    sender.close()

    assert sender.join(5.0) == Lost()
    assert titles(sink) == ["message 0", "message 1", "message 2"]
    assert (sender.sent, sink.calls) == (3, 4)


@pytest.mark.invariant("P14")
def test_what_was_dropped_is_told_in_the_next_message_that_gets_through(sink: Sink) -> None:
    sink.refuse = 4
    sender = sender_to(sink, TWICE)

    with capture_logs() as logs:
        for number, failures in enumerate((7, 30, 2, 1)):
            sender.offer(message(number, failures=failures))
        sender.close()
        left = sender.join(5.0)

    assert left == Lost()
    assert [one.body for one in sink.got] == [
        "body\n\nNot delivered before this: 2 messages about 37 failed runs.",
        "body",
    ]
    assert sender.dropped == Lost(2, 37)
    assert [log["event"] for log in logs] == [
        "notify.channel_failing",
        "notify.message_lost",
        "notify.message_lost",
        "notify.channel_recovered",
    ]


def test_what_was_lost_is_told_also_when_nothing_else_is_to_be_told(sink: Sink) -> None:
    sink.refuse = 2
    sender = Sender("team", sink, limit_s=5.0, clock=SYSTEM, config=ONCE, remind_s=0.05)
    sender.start()

    sender.offer(message(0, failures=7))
    wait_until(lambda: sink.got, timeout_s=5, what="the reminder")

    (reminder,) = sink.got
    assert reminder.title == "redrive: messages were lost"
    assert reminder.body.endswith("1 message about 7 failed runs.")
    assert (sink.calls, sender.dropped) == (3, Lost(1, 7))


@pytest.mark.invariant("P11", "P7")
def test_a_sink_that_hangs_takes_no_more_than_its_queue_and_delays_no_offer(sink: Sink) -> None:
    sink.go_on.clear()
    sender = sender_to(sink, limit_s=60.0)
    sender.offer(message(0))
    wait_until(lambda: sink.calls == 1, timeout_s=5, what="the first send")

    for number in range(1, 5 * MOST_WAITING + 1):
        sender.offer(message(number))

    assert sender.dropped == Lost(4 * MOST_WAITING, 4 * MOST_WAITING)
    sink.go_on.set()
    wait_until(lambda: sender.sent == MOST_WAITING + 1, timeout_s=5, what="what waited")
    # The latest are kept, and all the others are told of.
    assert titles(sink)[1] == f"message {4 * MOST_WAITING + 1}"
    told = sink.got[1].body
    assert f"Not delivered before this: {4 * MOST_WAITING} messages" in told


def test_a_send_that_takes_too_long_is_left_to_itself_and_only_so_many_are(sink: Sink) -> None:
    sink.go_on.clear()
    sender = sender_to(sink, limit_s=0.01)

    for number in range(MOST_HANGING + 3):
        sender.offer(message(number))
    wait_until(lambda: sender.dropped.messages == MOST_HANGING + 3, timeout_s=5, what="drops")

    assert sink.calls == MOST_HANGING
    sink.go_on.set()
    wait_until(lambda: len(sink.got) == MOST_HANGING, timeout_s=5, what="the late ones")
    sender.offer(message(99))
    wait_until(lambda: sender.sent == 1, timeout_s=5, what="the channel's return")
    assert f"{MOST_HANGING + 3} messages" in sink.got[-1].body


def test_closing_waits_no_longer_than_it_may_and_says_what_is_left(sink: Sink) -> None:
    sink.go_on.clear()
    sender = sender_to(sink, limit_s=60.0)
    sender.offer(message(0, failures=5))
    sender.offer(message(1, failures=6))
    wait_until(lambda: sink.calls == 1, timeout_s=5, what="the first send")

    sender.close()

    assert sender.join(0.05) == Lost(2, 11)


def test_closing_does_not_wait_between_retries(sink: Sink) -> None:
    sink.refuse = 1
    sender = sender_to(sink, RetryConfig(max_retries=1, initial_delay=3600, max_delay=3600))
    sender.offer(message(0))
    wait_until(lambda: sink.calls == 1, timeout_s=5, what="the first try")

    sender.close()

    assert sender.join(5.0) == Lost()
    assert titles(sink) == ["message 0"]


def test_a_bug_in_a_sink_costs_one_message(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    send = sink.send

    def broken(one: Message) -> None:
        if one.title == "message 0":
            raise ZeroDivisionError
        send(one)

    monkeypatch.setattr(sink, "send", broken)
    sender = sender_to(sink)

    sender.offer(message(0))
    sender.offer(message(1))
    sender.close()

    assert sender.join(5.0) == Lost()
    assert titles(sink) == ["message 1"]
    assert "1 message about 1 failed runs" in sink.got[0].body
