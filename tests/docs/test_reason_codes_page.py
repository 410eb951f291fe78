"""docs/reason-codes.md against the enums: each code has its line, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from redrive.retry import Kind, Reason, RetryConfig

PAGE = (Path(__file__).parents[2] / "docs" / "reason-codes.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\| `.*$", section, flags=re.MULTILINE)
    ]


def test_every_reason_has_its_line() -> None:
    assert [row[0].strip("`") for row in rows("Reasons")] == sorted(Reason)


def test_every_kind_has_its_line_with_the_retries_of_the_default_policy() -> None:
    told = {row[0].strip("`"): row[2] for row in rows("Kinds")}

    assert told == {kind.value: str(RetryConfig().retries_for(kind)) for kind in Kind}
