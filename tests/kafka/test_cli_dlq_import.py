"""`redrive dlq import` and `dlq stats` on a real broker."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter, LetterContext, LetterError, Source
from redrive.dead_letter.spool import SpooledLetter
from redrive.retry.kinds import Kind, Reason
from redrive.telemetry.metrics import LETTER_FIGURES
from redrive.testing.created_topics import Kafka, MakeTopics, Topics
from redrive.testing.reading import read_topic

pytestmark = pytest.mark.usefixtures("command_line")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def _line(number: int, *, age: timedelta = timedelta(0), text: str = "no such account") -> bytes:
    letter = DeadLetter(
        dlq_id=f"letter-{number}",
        timestamp=SYSTEM.now() - age,
        original_event=None,
        error=LetterError(type="ValueError", message=text),
        retry_count=0,
        context=LetterContext(),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        source=Source(topic="events", partition=0, offset=number, value=b"{}"),
    )
    spooled = SpooledLetter(
        dlq_id=letter.dlq_id,
        topic="letters",
        partition=0,
        key=b"key",
        headers=tuple(letter.headers()),
        value=letter.to_bytes(),
    )
    return spooled.to_line()


def test_an_import_says_what_was_stored_and_adds_nothing_the_second_time(
    kafka: Kafka, topics: Topics, tmp_path: Path
) -> None:
    (tmp_path / "spool.jsonl").write_bytes(_line(1) + _line(2) + _line(3)[:40])

    first = _run("dlq", "import", "spool.jsonl", "--json")
    second = _run("dlq", "import", "spool.jsonl")

    assert first.exit_code == second.exit_code == ExitCode.OK
    assert json.loads(first.stdout) == {
        "published": 2,
        "already_there": 0,
        "torn": 1,
        "too_large": 0,
    }
    assert "1 line(s) of spool.jsonl are no letter" in first.stderr
    assert "among them line 3" in first.stderr
    assert [line.split() for line in second.stdout.splitlines()[1:]] == [
        ["published", "0"],
        ["already_there", "2"],
        ["torn", "1"],
        ["too_large", "0"],
    ]
    assert len(read_topic(kafka.bootstrap_servers, topics.dlq)) == 2


def test_what_export_wrote_can_be_imported_elsewhere(
    kafka: Kafka,
    topics: Topics,
    make_topics: MakeTopics,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "spool.jsonl").write_bytes(_line(1) + _line(2))
    assert _run("dlq", "import", "spool.jsonl").exit_code == ExitCode.OK
    elsewhere = make_topics().dlq

    exported = _run("dlq", "export")
    (tmp_path / "export.jsonl").write_text(exported.stdout)
    monkeypatch.setenv("REDRIVE_KAFKA__DLQ_TOPIC", elsewhere)
    imported = _run("dlq", "import", "export.jsonl", "--json")

    assert json.loads(imported.stdout) == {
        "published": 2,
        "already_there": 0,
        "torn": 0,
        "too_large": 0,
    }
    here, there = (read_topic(kafka.bootstrap_servers, name) for name in (topics.dlq, elsewhere))
    assert [(r.key, r.value, r.headers) for r in there] == [
        (r.key, r.value, r.headers) for r in here
    ]


def test_letters_that_the_topic_does_not_take_hold_up_no_other_and_are_exit_code_1(
    kafka: Kafka, topics: Topics, tmp_path: Path
) -> None:
    large = _line(2, text="x" * 4_000_000)
    (tmp_path / "spool.jsonl").write_bytes(_line(1) + large + _line(3))

    result = _run("dlq", "import", "spool.jsonl", "--json")

    assert result.exit_code == ExitCode.ENDED_BADLY
    assert result.stdout, result.exception
    told = json.loads(result.stdout)
    assert told == {"published": 2, "already_there": 0, "torn": 0, "too_large": 1}
    assert "max.message.bytes" in result.stderr
    assert len(read_topic(kafka.bootstrap_servers, topics.dlq)) == 2


def test_a_file_that_is_not_there_is_exit_code_2() -> None:
    result = _run("dlq", "import", "nothing.jsonl")

    assert result.exit_code == ExitCode.SETTINGS
    assert "nothing.jsonl" in str(result.exception) + result.stderr


def test_figures_count_letters_and_end_with_1_at_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = _run("dlq", "figures", "--json")
    old = timedelta(days=25)
    (tmp_path / "spool.jsonl").write_bytes(_line(1, age=old) + _line(2))
    assert _run("dlq", "import", "spool.jsonl").exit_code == ExitCode.OK

    near = _run("dlq", "stats", "--json")
    monkeypatch.setenv("REDRIVE_LETTERS__MANY_OPEN", "2")
    monkeypatch.setenv("REDRIVE_LETTERS__NEAR_RETENTION", "0.9")
    many = _run("dlq", "stats")

    assert (calm.exit_code, near.exit_code, many.exit_code) == (0, 1, 1)
    assert json.loads(calm.stdout) == {
        "open": 0,
        "per_minute": 0,
        "oldest_open_s": None,
        "retention_used": 0,
        "alarms": [],
    }
    told = json.loads(near.stdout)
    assert (told["open"], told["per_minute"]) == (2, 0.1)
    assert told["oldest_open_s"] == pytest.approx(old.total_seconds(), abs=120)
    assert told["retention_used"] == pytest.approx(25 / 30, abs=0.001)
    assert len(told["alarms"]) == 1
    assert "letters.near_retention is 80%" in told["alarms"][0]
    assert "alarm: 2 letters are open (letters.many_open is 2)" in many.stdout


@pytest.mark.invariant("P14")
def test_figures_for_prometheus_say_the_same_and_leave_alarms_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = timedelta(days=29)
    (tmp_path / "spool.jsonl").write_bytes(_line(1, age=old) + _line(2))
    assert _run("dlq", "import", "spool.jsonl").exit_code == ExitCode.OK
    monkeypatch.setenv("REDRIVE_LETTERS__MANY_OPEN", "1")

    result = _run("dlq", "stats", "--prometheus")
    both = _run("dlq", "stats", "--prometheus", "--json")

    lines = [line.split() for line in result.stdout.splitlines() if not line.startswith("#")]
    told = {name: float(value) for name, value in lines}
    assert result.exit_code == ExitCode.OK
    assert set(told) == {figure.name for figure in LETTER_FIGURES}
    assert told["redrive_letters_open"] == 2
    assert told["redrive_letters_per_minute"] == 0.1
    assert told["redrive_letters_retention_seconds"] == 30 * 24 * 3600
    oldest_s = told["redrive_letters_oldest_open_seconds"]
    assert oldest_s == pytest.approx(old.total_seconds(), abs=120)
    assert both.exit_code == ExitCode.SETTINGS
