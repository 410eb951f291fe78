"""The tables of docs/figures.md: `python -m redrive.telemetry.reference docs/figures.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from redrive.telemetry.instruments import Figure
from redrive.telemetry.metrics import LETTER_FIGURES, WORKER_FIGURES

__all__ = ["with_tables"]

_TABLES = {"worker": WORKER_FIGURES, "letters": LETTER_FIGURES}
_BETWEEN = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->\n)", flags=re.DOTALL)


def with_tables(page: str) -> str:
    """Return the page with every table of figures in it made anew."""
    return _BETWEEN.sub(lambda at: f"{at[1]}{_table(_TABLES[at[2]])}{at[3]}", page)


def _table(figures: Iterable[Figure]) -> str:
    rows = "".join(
        f"| `{figure.name}` | {figure.type.value} | {_labels(figure)} | {figure.unit or '-'} "
        f"| {figure.help} |\n"
        for figure in figures
    )
    return f"\n| figure | type | labels | unit | what it says |\n|---|---|---|---|---|\n{rows}\n"


def _labels(figure: Figure) -> str:
    return ", ".join(f"`{label}`" for label in figure.labels) or "-"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
