"""docs/cli.md: made from the commands themselves."""

from __future__ import annotations

from pathlib import Path

from redrive.cli.reference import cli_reference

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_page_is_the_one_that_the_commands_make() -> None:
    assert cli_reference() == PAGE, "run: python -m redrive.cli.reference > docs/cli.md"
