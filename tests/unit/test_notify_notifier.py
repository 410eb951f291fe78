"""The notifier as a whole, with sinks that keep what they get."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from tests.unit.test_notify_sender import ONCE, Sink
from tests.unit.test_notify_wording import LETTER

from redrive.clock import SYSTEM
from redrive.notify.building import build_notifier
from redrive.notify.crashes import CrashAlarm
from redrive.notify.digest import Digest
from redrive.notify.hook import Hook
from redrive.notify.inbox import MOST_CAUSES, Inbox
from redrive.notify.notice import Alarm, LetterNotice, Trouble
from redrive.notify.notifier import Notifier
from redrive.notify.notify_settings import NotifySettings
from redrive.notify.rules import Routing
from redrive.notify.sender import Sender
from redrive.notify.wording import Wording
from redrive.telemetry.redactor import BUILT_IN
from redrive.testing.webhook import Webhook
from redrive.testing.worker_process import wait_until


@contextmanager
def running(*sinks: Sink, window_s: float = 60.0, hook: Hook | None = None) -> Iterator[Notifier]:
    names = [f"channel-{number}" for number in range(len(sinks))]
    notifier = Notifier(
        Digest(Routing(names), alarms=names, window_s=window_s, many_letters=0),
        Wording(BUILT_IN, since=SYSTEM.now(), window=timedelta(seconds=window_s)),
        [
            Sender(name, sink, limit_s=30.0, clock=SYSTEM, config=ONCE)
            for name, sink in zip(names, sinks, strict=True)
        ],
        hook=hook,
        clock=SYSTEM,
    )
    notifier.start()
    try:
        yield notifier
    finally:
        for sink in sinks:
            sink.go_on.set()
        notifier.close()
        notifier.join(5.0)


def counted(sink: Sink) -> int:
    lost = (re.findall(r"about (\d+) failed runs", message.body) for message in sink.got)
    return sum(message.failures for message in sink.got) + sum(
        int(number) for numbers in lost for number in numbers
    )


@pytest.mark.invariant("P14")
def test_ten_thousand_equal_failures_make_a_handful_of_messages_that_add_up() -> None:
    sink, failures = Sink(), 10_000
    with running(sink, window_s=0.5) as notifier:
        threads = [threading.Thread(target=offer, args=(notifier, failures // 4)) for _ in range(4)]
        began = SYSTEM.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: sum(m.failures for m in sink.got) == failures, timeout_s=10, what="all")
        took_s = SYSTEM.monotonic() - began

    # One at once, and one a window.
    assert len(sink.got) <= 2 + took_s / 0.5
    assert sum(message.failures for message in sink.got) == failures


def offer(notifier: Notifier, times: int) -> None:
    for _ in range(times):
        notifier.letter(LETTER)


@pytest.mark.invariant("P7")
def test_a_channel_that_hangs_delays_neither_the_others_nor_who_offers() -> None:
    hanging, other, got = Sink(), Sink(), list[LetterNotice]()
    hanging.go_on.clear()
    with running(hanging, other, hook=Hook(got.append)) as notifier:
        for cause in range(20):
            notifier.letter(replace(LETTER, fingerprint=f"v1:{cause}"))

        wait_until(lambda: len(other.got) == 20, timeout_s=5, what="the other channel")
        wait_until(lambda: len(got) == 20, timeout_s=5, what="the hook")
        assert hanging.got == []

    assert counted(hanging) == 20


def test_at_the_end_what_was_collected_is_told() -> None:
    sink = Sink()
    with running(sink) as notifier:
        notifier.letter(LETTER)
        wait_until(lambda: len(sink.got) == 1, timeout_s=5, what="the first message")
        offer(notifier, 41)

    assert [message.failures for message in sink.got] == [1, 41]


def test_what_nobody_could_be_told_is_logged_at_the_end() -> None:
    sink = Sink()
    sink.go_on.clear()
    with running(sink) as notifier, capture_logs() as logs:
        offer(notifier, 3)
        wait_until(lambda: sink.calls == 1, timeout_s=5, what="the first send")
        notifier.close()
        notifier.join(0.2)

    (left,) = [log for log in logs if log["event"] == "notify.left_untold"]
    assert left["letters"] == 3


@pytest.mark.invariant("P11")
def test_an_inbox_holds_a_bounded_number_of_causes_and_counts_the_rest() -> None:
    inbox = Inbox()

    for cause in range(MOST_CAUSES + 50):
        inbox.letter(replace(LETTER, fingerprint=f"v1:{cause}"))
        inbox.letter(LETTER)
    taken = inbox.take()

    assert len(taken.causes) == MOST_CAUSES // 2
    assert taken.mixed is not None
    offered = 2 * (MOST_CAUSES + 50)
    assert sum(one.count for one in taken.causes) + taken.mixed.count == offered
    assert (inbox.take().causes, inbox.take().mixed) == ((), None)


@pytest.mark.invariant("P11", "P14")
def test_no_workflow_takes_all_places_of_an_inbox() -> None:
    inbox = Inbox()

    for cause in range(MOST_CAUSES + 50):
        inbox.letter(replace(LETTER, fingerprint=f"v1:{cause}"))
    inbox.letter(replace(LETTER, workflow_id="another", fingerprint="v1:its own"))

    assert [one.first.fingerprint for one in inbox.take().causes][-1] == "v1:its own"


def test_a_bug_in_deciding_costs_what_was_in_hand_and_not_what_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = Sink()
    with running(sink) as notifier, capture_logs() as logs:
        take: Callable[..., object] = Digest.take
        monkeypatch.setattr(Digest, "take", lambda *_: 1 / 0)
        notifier.letter(LETTER)
        wait_until(
            lambda: any(log["event"] == "notify.broken" for log in logs),
            timeout_s=5,
            what="the log",
        )
        monkeypatch.setattr(Digest, "take", take)
        notifier.letter(LETTER)
        wait_until(lambda: len(sink.got) == 1, timeout_s=5, what="the next message")


def test_trouble_is_told_at_once_and_collected_like_failures() -> None:
    sink = Sink()
    alarm = Alarm(Trouble.SPOOLED, SYSTEM.now(), "worker-1")
    with running(sink) as notifier:
        notifier.alarm(alarm)
        wait_until(lambda: len(sink.got) == 1, timeout_s=5, what="the first message")
        for _ in range(9):
            notifier.alarm(alarm)

    assert [message.title for message in sink.got] == [
        "redrive: Kafka does not accept dead letters: they are spooled",
        "redrive: Kafka does not accept dead letters: they are spooled (10 within 1m)",
    ]


def test_a_worker_that_dies_again_and_again_is_told_of_once_it_is_too_often() -> None:
    with Webhook() as webhook:
        settings = NotifySettings.model_validate({"urls": {"team": webhook.url}, "crashes": 3})
        alarm = CrashAlarm(settings, redactor=BUILT_IN)

        for number in (1, 2, 3):
            assert webhook.received == []
            alarm.died("worker-1", number, "killed by SIGKILL")
        wait_until(lambda: len(webhook.received) == 1, timeout_s=30, what="the alarm")
        alarm.died("worker-2", 4, "exit code 75")
        alarm.close()

    assert [str(one["title"]) for one in webhook.received] == [
        "redrive: a worker keeps dying",
        "redrive: a worker keeps dying (2 within 5m)",
    ]
    first, second = (str(one["message"]) for one in webhook.received)
    assert "3 deaths in a row; the last one: killed by SIGKILL" in first
    assert "Worker: worker-1" in first
    assert "Worker: worker-2" in second


def test_a_hook_alone_needs_no_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    heard: list[LetterNotice] = []

    notifier = build_notifier(NotifySettings(), redactor=BUILT_IN, clock=SYSTEM, hook=heard.append)
    assert notifier is not None
    notifier.start()
    notifier.letter(LETTER)
    notifier.close()
    notifier.join(5.0)

    assert heard == [LETTER]


def test_where_nobody_is_to_be_told_there_is_no_notifier() -> None:
    assert build_notifier(NotifySettings(), redactor=BUILT_IN, clock=SYSTEM) is None


def test_a_parent_lives_on_when_it_cannot_tell() -> None:
    settings = NotifySettings.model_validate({"urls": {"team": "nosuchservice://x"}, "crashes": 1})

    with capture_logs() as logs:
        alarm = CrashAlarm(settings, redactor=BUILT_IN)
        alarm.died("worker-1", 1, "exit code 1")
        wait_until(
            lambda: any(log["event"] == "notify.channel_failing" for log in logs),
            timeout_s=60,
            what="the log line",
        )
        alarm.close()
