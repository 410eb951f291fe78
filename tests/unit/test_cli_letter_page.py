from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from redrive.cli.letter_page import letter_json, letter_page
from redrive.dead_letter.record import (
    Cause,
    CheckpointRef,
    DeadLetter,
    LetterAttempt,
    LetterContext,
    LetterError,
    Source,
)
from redrive.dead_letter.states import LetterState, State
from redrive.redriving.letters_topic import LetterStory, StoredLetter
from redrive.retry.kinds import Kind, Reason

EVENT_ID = "0b8d6f0e-7d54-4f2e-9b52-6f6c2f3a1d11"
EVENT = {
    "event_id": EVENT_ID,
    "workflow_id": "report",
    "payload": {"data": {"iban": "secret-iban", "items": ["secret-item"]}},
}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _story(
    *states: LetterState, key: bytes | None = EVENT_ID.encode(), **changes: object
) -> LetterStory:
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
            LetterAttempt(
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
    stored = StoredLetter(partition=3, offset=5, letter=letter.model_copy(update=changes))
    return LetterStory(stored, states)


def _state(state: State, minutes: int, **more: str) -> LetterState:
    return LetterState.model_validate(
        {
            "dlq_id": "letter-1",
            "event_id": EVENT_ID,
            "state": state,
            "timestamp": NOON + timedelta(minutes=minutes),
            "actor": "ada@host",
            **more,
        }
    )


def test_the_page_says_why_where_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    letter_page(_story(), topic="letters", reveal=False)

    page = capsys.readouterr().out
    for words in (
        "permanent (permanent)",
        "ValueError: no such [account]",
        "book",
        EVENT_ID,
        "workflow-events/3@41",
        "letters/3@5",
        "thread t-1, c-7",
        "1  2026-11-24 12:00:00  2s    permanent  -        w-1",
        "   ValueError: no such [account]",
        "KeyError: 'account'",
        "redrive dlq show letter-1 --reveal",
        f"redrive run show {EVENT_ID}",
        "redrive dlq redrive letter-1 ",
        "redrive dlq redrive letter-1 --restart",
        "redrive dlq discard letter-1",
    ):
        assert words in page


@pytest.mark.invariant("P15")
def test_what_the_producer_wrote_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    story = _story(key=b"secret-key")

    letter_page(story, topic="letters", reveal=False)
    text = json.dumps(letter_json(story, topic="letters", reveal=False))

    page = capsys.readouterr().out
    for secret in ("secret-iban", "secret-item", "secret-token", "secret-key"):
        assert secret not in page
        assert secret not in text
        assert base64.b64encode(secret.encode()).decode() not in text


def test_the_masked_json_keeps_names_ids_and_our_own_headers() -> None:
    masked = letter_json(_story(), topic="letters", reveal=False)

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
    story = _story()

    letter_page(story, topic="letters", reveal=True)
    shown = letter_json(story, topic="letters", reveal=True)

    assert "secret-iban" in capsys.readouterr().out
    assert DeadLetter.model_validate(shown["letter"]) == story.stored.letter
    assert shown["event_id"] == EVENT_ID
    assert shown["stored"] == {"topic": "letters", "partition": 3, "offset": 5}


def test_the_history_says_who_did_what_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    story = _story(
        _state(State.PARKED, 1, reason="wait for the bank"),
        _state(State.REDRIVEN, 2, mode="resume"),
    )

    letter_page(story, topic="letters", reveal=False)
    shown = letter_json(story, topic="letters", reveal=False)

    page = capsys.readouterr().out
    assert "state      redriven" in page
    assert "2026-11-24T12:01:00+00:00  parked by ada@host (claimed): wait for the bank" in page
    assert "2026-11-24T12:02:00+00:00  redriven, resume by ada@host (claimed)" in page
    assert shown["state"] == "redriven"
    assert isinstance(shown["states"], list)
    assert [state["state"] for state in shown["states"]] == ["parked", "redriven"]


RESUME = "redrive dlq redrive letter-1 "
RESTART = "redrive dlq redrive letter-1 --restart"
BACK = "redrive dlq park letter-1 --back"
DISCARD = "redrive dlq discard letter-1"


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        (None, {RESUME, RESTART, DISCARD}),
        (State.OPEN, {RESUME, RESTART, DISCARD}),
        (State.PARKED, {BACK, DISCARD}),
        (State.REDRIVEN, set()),
        (State.RESOLVED, set()),
        (State.DISCARDED, set()),
    ],
)
def test_only_what_can_be_done_with_the_letter_is_offered(
    state: State | None, offered: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    states = () if state is None else (_state(state, 1),)

    letter_page(_story(*states), topic="letters", reveal=False)

    page = capsys.readouterr().out
    assert {command for command in (RESUME, RESTART, BACK, DISCARD) if command in page} == offered


def test_without_a_checkpoint_only_a_restart_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    letter_page(_story(checkpoint=None), topic="letters", reveal=False)

    page = capsys.readouterr().out
    assert RESTART in page
    assert page.count(RESUME) == page.count(RESTART)


def test_a_letter_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    risky = "\x1b[31mred\x1b]0;title\x07 \x9b2J \r\b \u202e \ud800 [bold]b[/bold]\nsecond line"
    story = _story(
        _state(State.PARKED, 1, reason=risky.replace("\ud800", "")),
        dlq_id=risky,
        node=risky,
        error=LetterError.model_construct(type=risky, message=risky, traceback=risky),
        cause_chain=[Cause.model_construct(type=risky, message=risky)],
        context=LetterContext.model_construct(workflow_id=risky, workflow_run_id=None),
        original_event={risky: risky},
        checkpoint=CheckpointRef.model_construct(thread_id=risky, checkpoint_id=risky),
    )

    letter_page(story, topic="letters", reveal=True)

    page = capsys.readouterr().out
    assert [c for c in set(page) if not c.isprintable()] == ["\n"]
    assert "\\x1b[31mred\\x1b]0;title\\x07 \\x9b2J \\r\\x08 \\u202e \\ud800 [bold]b[/bold]" in page


def test_what_is_offered_to_be_copied_into_a_shell_is_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    letter_page(_story(dlq_id="$(touch x); y"), topic="letters", reveal=False)

    assert "redrive dlq redrive '$(touch x); y'" in capsys.readouterr().out


def test_an_endless_line_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    error = LetterError(type="ValueError", message="m" * 100_000)

    letter_page(_story(error=error, cause_chain=[], attempts=[]), topic="letters", reveal=False)

    page = capsys.readouterr().out
    assert len(page) < 5_000
    assert "m… (98012 more characters: --json has them)" in page
