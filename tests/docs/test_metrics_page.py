"""docs/metrics.md against the code: its tables are made from it, and what it asks for is there."""

from __future__ import annotations

import re
from pathlib import Path

from redrive.telemetry.metrics import LETTER_FIGURES, WORKER_FIGURES
from redrive.telemetry.metrics_reference import with_tables

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
SERIES = ("", "_bucket", "_sum", "_count")


def test_the_tables_are_those_that_the_code_makes() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == with_tables(page), (
        "run: python -m redrive.telemetry.metrics_reference docs/metrics.md"
    )
    assert all(f"| `{figure.name}` |" in page for figure in (*WORKER_FIGURES, *LETTER_FIGURES))


def test_every_figure_that_a_query_names_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    there = {f"{fig.name}{end}" for fig in (*WORKER_FIGURES, *LETTER_FIGURES) for end in SERIES}

    named = set(re.findall(r"\bredrive_[a-z_]+", page))

    assert named - there == set()
