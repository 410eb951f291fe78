"""What messages say, and what they never do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.rows import rows
from tests.unit.test_redact import SECRETS

from redrive.notify.digest import Digest
from redrive.notify.message import Lost, Message
from redrive.notify.notice import Alarm, LetterNotice, Trouble
from redrive.notify.rules import Routing
from redrive.notify.windows import Counted
from redrive.notify.wording import Wording
from redrive.retry.kinds import Kind, Reason
from redrive.telemetry.redactor import Redactor

UP_SINCE = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
FIRST = datetime(2026, 1, 31, 14, 2, 11, tzinfo=UTC)
WINDOW = timedelta(minutes=5)
WORDING = Wording(Redactor(["client [A-Z]+"]), since=UP_SINCE, window=WINDOW)
LETTER = LetterNotice(
    dlq_id="7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10",
    at=FIRST,
    kind=Kind.TRANSIENT,
    reason=Reason.RETRIES_EXHAUSTED,
    worker="worker-1",
    workflow_id="report-agent",
    node="write",
    fingerprint="v1:5d41402abc4b2a76",
    error_type="httpx.HTTPStatusError",
    message="503 Service Unavailable",
    attempts=4,
    graph_version="3f2",
)


class Told:
    """A digest with one channel, and its messages."""

    def __init__(self) -> None:
        self.digest = Digest(
            Routing(["team"]), alarms=["team"], window_s=WINDOW.total_seconds(), many_letters=0
        )
        self.now_s = 0.0

    def fails(self, letter: LetterNotice = LETTER, *, count: int = 1) -> list[Message]:
        last = replace(letter, at=self._at(letter))
        return self._said(self.digest.take([Counted(count, last, last)], self.now_s))

    def after(self, window: timedelta = WINDOW) -> list[Message]:
        self.now_s += window.total_seconds()
        return self._said(self.digest.due(self.now_s))

    def alarm(self, alarm: Alarm, *, count: int = 1) -> list[Message]:
        return self._said(self.digest.alarm(Counted(count, alarm, alarm), self.now_s))

    def _at(self, letter: LetterNotice) -> datetime:
        return letter.at + timedelta(seconds=self.now_s)

    def _said(self, reports: object) -> list[Message]:
        assert isinstance(reports, list)
        return [WORDING.message(report) for report in reports]


def test_the_first_failure_is_told_whole() -> None:
    (message,) = Told().fails()

    assert message.title == ("redrive: report-agent, node write fails: httpx.HTTPStatusError (new)")
    assert message.body == (
        "report-agent, node write: retries_exhausted (transient)\n"
        "httpx.HTTPStatusError: 503 Service Unavailable\n"
        "\n"
        "1 run, at 2026-01-31 14:02:11 UTC. More of the same follow as one message.\n"
        "New since 2026-01-31 14:02:11 UTC: 1 run, node write, first seen with graph version 3f2. "
        "This worker is up since 2026-01-31 09:00:00 UTC.\n"
        "Worker: worker-1, graph version 3f2\n"
        "\n"
        "See: redrive dlq groups\n"
        "      redrive dlq show 7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10\n"
        "Redrive: redrive dlq redrive --fingerprint v1:5d41402abc4b2a76 --dry-run"
    )
    assert message.failures == 1


def test_what_follows_is_told_with_its_count_and_its_beginning() -> None:
    told = Told()
    told.fails()
    told.fails(count=119)

    (message,) = told.after()

    assert message.title.endswith("fails: httpx.HTTPStatusError, 119 runs (new)")
    assert "119 runs between 2026-01-31 14:02:11 UTC and 2026-01-31 14:02:11 UTC" in message.body
    assert "120 in this window" in message.body
    assert (
        "New since 2026-01-31 14:02:11 UTC: 120 runs, node write, first seen with graph version 3f2"
        in message.body
    )
    assert message.failures == 119


def test_a_known_cause_that_comes_three_times_as_often_is_rising() -> None:
    told = Told()
    told.fails()
    told.fails(count=9)
    told.after()
    told.after(timedelta(hours=2))
    told.fails(replace(LETTER, graph_version="4a0"), count=1)
    told.fails(count=39)

    (message,) = told.after()

    assert message.title.endswith(", 39 runs (rising)")
    assert "Rising: 40 within 5m, 0 in the 5m before. Known since" in message.body
    assert "50 runs, node write, first seen with graph version 3f2" in message.body


def test_an_old_cause_at_its_usual_pace_is_neither() -> None:
    told = Told()
    told.fails()
    told.after()
    told.after(timedelta(hours=2))

    (message,) = told.fails()

    assert message.title.endswith("fails: httpx.HTTPStatusError")


def test_an_event_that_could_not_be_read_is_told_without_names() -> None:
    letter = replace(LETTER, workflow_id=None, node=None, fingerprint=None, graph_version=None)

    (message,) = Told().fails(letter)

    assert "unreadable event" in message.title
    assert message.body.endswith(f"redrive dlq redrive {LETTER.dlq_id} --dry-run")


@pytest.mark.parametrize("trouble", list(Trouble))
def test_each_trouble_is_told_with_its_worker_and_what_to_do(trouble: Trouble) -> None:
    told = Told()
    alarm = Alarm(trouble, FIRST, "worker-1", "3 deaths in a row; the last one: exit code 75")

    (message,) = told.alarm(alarm)
    told.alarm(alarm, count=7)
    (later,) = told.after()

    assert "Worker: worker-1" in message.body
    assert "the last one: exit code 75" in message.body
    assert "See: " in message.body
    assert later.title == f"{message.title} (8 within 5m)"
    assert (message.failures, later.failures) == (0, 0)


@pytest.mark.invariant("P15")
@rows(("text", "secret"), SECRETS.items())
def test_no_message_shows_a_secret_wherever_it_stood(text: str, secret: str) -> None:
    told = Told()
    letter = replace(LETTER, message=text, error_type=text, node=text, workflow_id=text)

    said = told.fails(letter) + told.alarm(Alarm(Trouble.SPOOLED, FIRST, "w", text))

    assert [m for m in said if secret in m.title or secret in m.body] == []


@pytest.mark.invariant("P15")
def test_no_message_shows_what_a_pattern_of_the_users_own_fits() -> None:
    (message,) = Told().fails(replace(LETTER, message="client ACME is not there"))

    assert "[redacted:custom] is not there" in message.body


@pytest.mark.invariant("P15")
def test_what_failed_can_call_nobody_and_begins_no_line_of_its_own() -> None:
    hostile = "@everyone <!channel> <@U1>\r\nLook: rm -rf\x00 [here](http://evil) \u202e"
    letter = replace(LETTER, message=hostile, workflow_id=hostile, node=hostile)

    (message,) = Told().fails(letter)

    for text in (message.title, message.body):
        assert "@everyone" not in text
        assert "<!" not in text
        assert "<@" not in text
        assert "](" not in text
        assert "\x00" not in text
        assert "\u202e" not in text
    assert "\n" not in message.title
    assert [line for line in message.body.splitlines() if line.startswith("Look: rm")] == []


@pytest.mark.invariant("P11")
def test_a_message_is_short_whatever_the_failure_says() -> None:
    letter = replace(LETTER, message="x" * 10**6, workflow_id="y" * 10**6, node="z" * 10**6)

    (message,) = Told().fails(letter)

    assert len(message.title) <= 200
    assert len(message.body) <= 2_500


def test_a_message_tells_what_was_lost_before_it() -> None:
    (message,) = Told().fails()

    after = message.after(Lost(3, 240))

    assert after.body.endswith("Not delivered before this: 3 messages about 240 failed runs.")
    assert after.failures == 1
    assert message.after(Lost()) == message
