"""Writes the tables of docs/metrics.md; run as a module, with the path of the page."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from redrive.telemetry.instruments import Metric
from redrive.telemetry.metrics import LETTER_FIGURES, WORKER_FIGURES

__all__ = ["with_tables"]

_TABLES = {"worker": WORKER_FIGURES, "letters": LETTER_FIGURES}
_BETWEEN = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->\n)", flags=re.DOTALL)


def with_tables(page: str) -> str:
    """Return the page with every table of figures in it made anew."""
    return _BETWEEN.sub(lambda at: f"{at[1]}{_table(at[2])}{at[3]}", page)


def _table(name: str) -> str:
    columns = dict(_COLUMNS)
    if name != "worker":  # there are several of nothing else
        del columns[_OF_SEVERAL]
    rows = "".join(_row(column(metric) for column in columns.values()) for metric in _TABLES[name])
    return f"\n{_row(columns)}|{'---|' * len(columns)}\n{rows}\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels) or "-"


_OF_SEVERAL = "of several"
_COLUMNS: Mapping[str, Callable[[Metric], str]] = {
    "figure": lambda metric: f"`{metric.name}`",
    "type": lambda metric: metric.type.value,
    "labels": _labels,
    "unit": lambda metric: metric.unit or "-",
    _OF_SEVERAL: lambda metric: metric.merge.value,
    "what it says": lambda metric: metric.help,
}


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
