"""What commands print: data to stdout, as a table for people or as JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["note", "print_json", "print_lines", "print_table"]


def print_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Cells are text, whatever brackets they hold."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_lines(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, each on one line however narrow the screen: for grep, say."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def note(text: str) -> None:
    """Tell a person something beside the data: to stderr, so that pipes stay clean."""
    sys.stderr.write(text + "\n")
