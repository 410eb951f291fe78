from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from redrive.cli.letter_page import letter_json, letter_page
from redrive.dead_letter.record import (
    Attempt,
    Cause,
    CheckpointRef,
    DeadLetter,
    LetterContext,
    LetterError,
    Source,
)
from redrive.redriving.letters import StoredLetter
from redrive.retry.kinds import Kind, Reason

EVENT_ID = "0b8d6f0e-7d54-4f2e-9b52-6f6c2f3a1d11"
EVENT = {
    "event_id": EVENT_ID,
    "workflow_id": "report",
    "payload": {"data": {"iban": "secret-iban", "items": ["secret-item"]}},
}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _stored(*, key: bytes | None = EVENT_ID.encode()) -> StoredLetter:
    letter = DeadLetter(
        dlq_id="letter-1",
        timestamp=NOON,
        original_event=EVENT,
        error=LetterError(type="ValueError", message="no such [account]"),
        retry_count=0,
        context=LetterContext(workflow_id="report"),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        node="book",
        cause_chain=[Cause(type="KeyError", message="'account'")],
        attempts=[
            Attempt(
                number=1,
                started_at=NOON,
                ended_at=NOON + timedelta(seconds=2),
                kind=Kind.PERMANENT,
                type="ValueError",
                message="no such [account]",
                worker="w-1",
            )
        ],
        source=Source(
            topic="workflow-events",
            partition=3,
            offset=41,
            key=key,
            headers=[("token", b"secret-token"), ("redrive-count", b"1")],
            value=json.dumps(EVENT).encode(),
        ),
        checkpoint=CheckpointRef(thread_id="t-1", checkpoint_id="c-7"),
    )
    return StoredLetter(partition=3, offset=5, letter=letter)


def test_the_page_says_why_where_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    letter_page(_stored(), topic="letters", reveal=False)

    page = capsys.readouterr().out
    for words in (
        "permanent (permanent)",
        "ValueError: no such [account]",
        "book",
        EVENT_ID,
        "workflow-events/3@41",
        "letters/3@5",
        "thread t-1, c-7",
        "1. 2026-11-24T12:00:00+00:00 for 2s on w-1: permanent, ValueError: no such [account]",
        "KeyError: 'account'",
        "redrive dlq show letter-1 --reveal",
        "redrive send report --data @data.json --wait",
    ):
        assert words in page


@pytest.mark.invariant("P15")
def test_what_the_producer_wrote_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    stored = _stored(key=b"secret-key")

    letter_page(stored, topic="letters", reveal=False)
    text = json.dumps(letter_json(stored, topic="letters", reveal=False))

    page = capsys.readouterr().out
    for secret in ("secret-iban", "secret-item", "secret-token", "secret-key"):
        assert secret not in page
        assert secret not in text
        assert base64.b64encode(secret.encode()).decode() not in text


def test_the_masked_json_keeps_names_ids_and_our_own_headers() -> None:
    masked = letter_json(_stored(), topic="letters", reveal=False)

    letter = masked["letter"]
    assert isinstance(letter, dict)
    assert letter["original_event"] == {
        "event_id": EVENT_ID,
        "workflow_id": "report",
        "payload": {"data": {"iban": "•••", "items": ["•••"]}},
    }
    assert letter["source"]["key"] == base64.b64encode(EVENT_ID.encode()).decode()
    assert letter["source"]["headers"] == [["token", None], ["redrive-count", "MQ=="]]
    assert letter["source"]["value"] is None
    assert masked["masked"] is True


def test_revealed_the_letter_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    stored = _stored()

    letter_page(stored, topic="letters", reveal=True)
    shown = letter_json(stored, topic="letters", reveal=True)

    assert "secret-iban" in capsys.readouterr().out
    assert DeadLetter.model_validate(shown["letter"]) == stored.letter
    assert shown["event_id"] == EVENT_ID
    assert shown["stored"] == {"topic": "letters", "partition": 3, "offset": 5}
