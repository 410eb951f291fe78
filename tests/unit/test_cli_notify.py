"""`redrive notify test`, with webhooks on the loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.testing.webhook import Webhook

SECRET = "hunter2hunter2"  # noqa: S105 - a canary


@pytest.fixture(autouse=True)
def _elsewhere(
    own_logging: None,  # noqa: ARG001 - for what it undoes
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as hook:
        yield hook


def channels(**urls: str) -> None:
    lines = "\n".join(f'{name} = "{url}"' for name, url in urls.items())
    Path("redrive.toml").write_text(f'[notify]\ntimeout = "300ms"\n[notify.urls]\n{lines}\n')


def secret(webhook: Webhook) -> str:
    return webhook.url.replace("://", f"://me:{SECRET}@")


def test_each_channel_gets_a_message_and_the_code_is_0(webhook: Webhook) -> None:
    channels(team=webhook.url, oncall=webhook.url)

    ran = CliRunner().invoke(app, ["notify", "test", "--json"])

    assert ran.exit_code == 0
    sent = {"service": "JSON", "sent": True, "error": None}
    assert json.loads(ran.stdout) == {"team": sent, "oncall": sent}
    assert [one["title"] for one in webhook.received] == ["redrive: a test message"] * 2


@pytest.mark.invariant("P15")
def test_one_that_fails_is_named_with_its_cause_and_no_secret_is_shown(webhook: Webhook) -> None:
    webhook.status = 500
    channels(team=secret(webhook), wrong=f"nosuchservice://{SECRET}")

    ran = CliRunner().invoke(app, ["notify", "test"])

    assert ran.exit_code == 1
    assert "error=500" in ran.stdout
    assert "Apprise does not know this URL" in ran.stdout
    assert SECRET not in ran.output
    assert webhook.refused == 1


def test_one_that_hangs_is_waited_for_no_longer_than_it_may(webhook: Webhook) -> None:
    webhook.go_on.clear()
    channels(team=webhook.url)

    ran = CliRunner().invoke(app, ["notify", "test"])

    assert ran.exit_code == 1
    assert "no answer within 0.3 s" in ran.stdout


def test_a_url_that_a_flag_refers_to_is_tried_alone(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels(team="json://127.0.0.1:9/nobody")
    monkeypatch.setenv("HOOK", webhook.url)

    ran = CliRunner().invoke(app, ["notify", "test", "--url", "env:HOOK"])
    on_the_line = CliRunner().invoke(app, ["notify", "test", "--url", webhook.url])

    assert ran.exit_code == 0
    assert on_the_line.exit_code == ExitCode.SETTINGS
    assert "env:NAME" in on_the_line.output
    assert len(webhook.received) == 1


def test_without_a_channel_it_says_so_with_code_2() -> None:
    ran = CliRunner().invoke(app, ["notify", "test"])

    assert ran.exit_code == 2
    assert "set notify.urls" in ran.stderr
