"""Lists and groups of letters in 80 columns, whatever the letters hold."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from redrive.cli.letters_table import group_json, news, print_groups, print_letters
from redrive.cli.output import note, print_json, print_table, visible
from redrive.redriving import LetterSummary, group
from redrive.retry.kinds import Kind, Reason

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LETTER = LetterSummary(
    dlq_id="0b8d6f0e-7d54-5f2e-9b52-6f6c2f3a1d11",
    event_id="e-1",
    workflow="report",
    kind=Kind.RATE_LIMITED,
    reason=Reason.RETRIES_EXHAUSTED,
    node="book",
    fingerprint="0123456789abcdef",
    error_type="httpx.HTTPStatusError",
    message="429 Too Many Requests",
    at=NOON - timedelta(hours=3),
    redrive_count=0,
    partition=3,
    offset=5,
)
RISKY = "\x1b[31mred\x1b[0m \x9b2J \r \u202e \ud800 [bold]b[/bold] :smile:"


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_list_fits_80_columns_with_whole_ids(capsys: pytest.CaptureFixture[str]) -> None:
    print_letters([LETTER, replace(LETTER, message="long " * 50, workflow="日本語" * 30)], NOON)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "LETTER                                STATE  AGE  KIND"
    assert lines[1] == f"{LETTER.dlq_id}  open   3h   rate_limited"
    assert lines[2] == "    report/book  httpx.HTTPStatusError: 429 Too Many Requests"
    assert lines[4].endswith("…")
    assert max(map(cell_len, lines)) <= 80


def test_groups_fit_80_columns_and_show_the_trend(capsys: pytest.CaptureFixture[str]) -> None:
    letters = [replace(LETTER, dlq_id=str(n), at=NOON - timedelta(hours=n % 6)) for n in range(120)]
    one_before = replace(LETTER, dlq_id="x", at=NOON - timedelta(hours=15))
    old = replace(LETTER, fingerprint=None, at=NOON - timedelta(days=400))

    print_groups(group([*letters, one_before, old], NOON), NOON)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FINGERPRINT       OPEN  ALL  FIRST  LAST  LAST 24 HOURS"
    assert lines[1] == ("0123456789abcdef  121   121  15h    0s    ▁▁▁▁▁▁▁▁▂▁▁▁▁▁▁▁▁▁██████ rising")
    assert lines[3] == (
        "    rising: 120 runs in 6h, 1 in the 18h before; first at 2026-11-23 21:00 UTC"
    )
    assert lines[4].startswith("none              1     1    400d   400d  ▁")
    assert lines[4].endswith(" steady")
    assert len(lines) == 6
    assert max(map(cell_len, lines)) <= 80


def test_a_new_cause_is_named_with_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    at = NOON - timedelta(minutes=14)
    letters = [
        replace(LETTER, dlq_id=str(n), at=at + timedelta(seconds=n), graph_version=f"3f{n + 2}")
        for n in range(120)
    ]
    groups = group(letters, NOON)

    print_groups(groups, NOON)

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("█ new")
    assert lines[3] == (
        "    new since 11:46 UTC, 120 runs, node book, first seen with graph version 3f2"
    )
    told = group_json(groups[0])
    assert (told["trend"], told["recent"], told["before"]) == ("new", 120, 0)
    assert (told["first_seen"], told["first_version"]) == (at.isoformat(), "3f2")


def test_a_steady_cause_is_no_news() -> None:
    old = replace(LETTER, at=NOON - timedelta(days=4))

    assert [news(one, NOON) for one in group([LETTER, old], NOON)] == [""]


def test_one_letter_shows_beside_an_hour_with_many(capsys: pytest.CaptureFixture[str]) -> None:
    many = [replace(LETTER, dlq_id=str(n), at=NOON) for n in range(1000)]

    print_groups(group([*many, replace(LETTER, at=NOON - timedelta(hours=2))], NOON), NOON)

    assert "▂▁█" in capsys.readouterr().out


def test_letters_in_a_list_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    risky = replace(
        LETTER,
        dlq_id=RISKY,
        workflow=RISKY,
        node=RISKY,
        fingerprint=RISKY,
        error_type=RISKY,
        message=RISKY,
        graph_version=RISKY,
    )

    print_letters([risky], NOON)
    print_groups(group([replace(risky, at=NOON)], NOON), NOON)

    shown = capsys.readouterr().out
    assert [c for c in set(shown) if not c.isprintable()] == ["\n"]
    assert "\\x1b[31mred\\x1b[0m \\x9b2J \\r \\u202e \\ud800 [bold]b[/bold] :smile:" in shown


def test_json_tables_and_notes_cannot_command_it_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"risky": RISKY})
    shown = capsys.readouterr().out
    print_table(["risky"], [[RISKY]])
    note(f"one\n{RISKY}")

    beside = capsys.readouterr()
    assert json.loads(shown) == {"risky": RISKY}
    for text in (shown, beside.out, beside.err):
        assert [c for c in set(text) if not c.isprintable()] == ["\n"]
    assert beside.err.startswith("one\n")


def test_what_is_printable_stays_as_it_is() -> None:
    assert visible("täglich 日本語 [x] \\x1b") == "täglich 日本語 [x] \\x1b"
