from __future__ import annotations

from pathlib import Path

from redrive.cli.exits import ExitCode

PAGE = Path(__file__).parents[2] / "docs" / "exit-codes.md"


def test_the_page_lists_exactly_the_exit_codes_that_there_are() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()

    listed = [line for line in lines if line.startswith("| ") and line[2].isdecimal()]

    assert listed == [f"| {code.value} | {code.meaning} |" for code in ExitCode]
