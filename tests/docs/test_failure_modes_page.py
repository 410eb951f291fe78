"""docs/failure-modes.md: each row names a test that is there, and names that are known."""

import re
from pathlib import Path

from tests.rows import rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failure-modes.md").read_text(encoding="utf-8")
KNOWN = "".join(
    (ROOT / "docs" / page).read_text(encoding="utf-8")
    for page in ("running-a-worker.md", "settings.md")
)
ROWS = [
    line
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| what breaks", "|---"))
]


@rows("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_row_names_tests_that_are_there_and_events_that_are_known(row: str) -> None:
    *_, test, _ = row.split("|")

    tests = re.findall(r"`(tests/[^`]+)`", test)
    named = re.findall(r"`([a-z]+\.[a-z_]+)`", row)

    assert tests or test.strip() == "not by a test: seen"
    assert all((ROOT / path).is_file() for path in tests), tests
    assert [name for name in named if f"| `{name}` |" not in KNOWN] == []
