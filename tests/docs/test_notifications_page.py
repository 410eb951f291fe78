"""docs/notifications.md: its settings and channels work, and its message is what is sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from redrive.notify.channels import AppriseChannel
from redrive.notify.digest import Digest
from redrive.notify.notice import LetterNotice, NoticeCause
from redrive.notify.rules import Routing
from redrive.notify.windows import Counted
from redrive.notify.wording import Wording
from redrive.retry.kinds import Kind, Reason
from redrive.settings import load_settings
from redrive.telemetry.redactor import BUILT_IN

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text(encoding="utf-8")
TOML = re.findall(r"^```toml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
(MESSAGE,) = re.findall(r"^```text\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", TOML)
def test_settings_of_the_page_are_read_and_their_channels_are_known(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "redrive.toml"
    file.write_text(text, encoding="utf-8")

    settings = load_settings(file, environ={}).notify

    for name, url in settings.urls.items():
        assert AppriseChannel(name, url.get_secret_value()).service


def test_the_rules_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "redrive.toml"
    file.write_text(TOML[1], encoding="utf-8")
    routing = load_settings(file, environ={}).notify.routing()

    assert routing.of(NoticeCause("sandbox-1", "timeout", "deadline", "v1:0")) is None
    assert routing.of(NoticeCause("billing-eu", "timeout", "deadline", "v1:0")) == {
        "team": 1,
        "pager": 1,
    }
    assert routing.of(NoticeCause("reports", "timeout", "deadline", "v1:0")) == {
        "team": 1,
        "pager": 50,
    }
    assert routing.of(NoticeCause("reports", "permanent", "permanent", "v1:0")) == {"team": 1}


def test_the_message_of_the_page_is_what_is_sent() -> None:
    window = timedelta(minutes=5)
    digest = Digest(Routing(["a"]), alarms=[], window_s=window.total_seconds(), many_letters=0)
    wording = Wording(BUILT_IN, since=datetime(2026, 1, 31, 9, tzinfo=UTC), window=window)
    first, second, last = (
        LetterNotice(
            dlq_id="7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10",
            at=datetime(2026, 1, 31, 14, *at, tzinfo=UTC),
            kind=Kind.TRANSIENT,
            reason=Reason.RETRIES_EXHAUSTED,
            worker="worker-1",
            workflow_id="report-agent",
            node="write",
            fingerprint="v1:5d41402abc4b2a76",
            error_type="httpx.HTTPStatusError",
            message="503 Service Unavailable",
            graph_version="3f2",
        )
        for at in ((2, 11), (2, 13), (7, 2))
    )
    digest.take([Counted(1, first, first)], 0.0)
    digest.take([Counted(119, second, last)], 1.0)

    (report,) = digest.due(window.total_seconds())
    message = wording.message(report)

    assert f"{message.title}\n\n{message.body}\n" == MESSAGE
