"""Channels of apprise against real servers on the loopback: what arrives, and that no URL does."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from redrive.errors import MissingExtraError, NotifyError, SettingsError
from redrive.notify.channels import AppriseChannel
from redrive.notify.message import Message, MessageLevel
from redrive.testing.webhook import Webhook

MESSAGE = Message("redrive: flow fails", "line one\nline two <b>&", MessageLevel.FAILURE, 1)
SECRETS = ["hunter2-pw", "T1JJ3T3L2", "deadbeefcafe"]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as hook:
        yield hook


class Mailbox:
    """Keeps mails."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[tuple[Mailbox, str]]:
    """Run a mail server; yield what it gets, and the URL of a channel to it."""
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box, f"mailto://127.0.0.1:{port}?from=r@example.com&to=t@example.com&mode=insecure"
    finally:
        controller.stop()


def test_a_webhook_gets_the_message(webhook: Webhook) -> None:
    AppriseChannel("hook", webhook.url).send(MESSAGE)

    (received,) = webhook.received
    assert (received["title"], received["message"], received["type"]) == (
        MESSAGE.title,
        MESSAGE.body,
        "failure",
    )


def test_a_mail_server_gets_the_message() -> None:
    with mail_server() as (box, url):
        AppriseChannel("mail", url).send(MESSAGE)

    (mail,) = box.mails
    assert mail["Subject"] == MESSAGE.title
    assert mail["To"] == "t@example.com"
    text = mail.get_body(("plain",))
    assert text is not None
    assert text.get_content().splitlines()[:2] == ["line one", "line two <b>&"]


def test_an_answer_of_500_is_an_error_that_says_so(webhook: Webhook) -> None:
    webhook.status = 500

    with pytest.raises(NotifyError, match=r"JSON: .*error=500"):
        AppriseChannel("hook", webhook.url).send(MESSAGE)


@pytest.mark.invariant("P15")
@pytest.mark.parametrize(
    "url",
    [
        "json://user:hunter2-pw@127.0.0.1:9/T1JJ3T3L2?-token=deadbeefcafe",
        "slack://T1JJ3T3L2/deadbeefcafe",
        "mailto://user:hunter2-pw@deadbeefcafe.invalid:9?smtp=127.0.0.1&to=T1JJ3T3L2@x",
        "deadbeefcafe://hunter2-pw/T1JJ3T3L2",
    ],
)
def test_no_error_and_no_log_line_shows_a_part_of_the_url(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises((NotifyError, SettingsError)) as caught:
        AppriseChannel("team", url).send(MESSAGE)

    # urllib3 at level debug is the business of who sets it to that.
    logged = [r.getMessage() for r in caplog.records if not r.name.startswith("urllib3")]
    told = [str(caught.value), repr(caught.value.__cause__), *logged]
    scheme = url.partition("://")[0]
    leaked = [s for s in SECRETS if s != scheme for text in told if s.lower() in text.lower()]
    assert leaked == []


def test_what_others_do_with_apprise_is_logged_as_ever(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    AppriseChannel("hook", webhook.url).send(MESSAGE)

    logging.getLogger("apprise").warning("of somebody else")

    assert [r.getMessage() for r in caplog.records if r.name == "apprise"] == ["of somebody else"]


def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)

    with pytest.raises(MissingExtraError, match=r"install redrive\[notify\]"):
        AppriseChannel("hook", "json://127.0.0.1")
