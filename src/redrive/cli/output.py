"""What commands print: data to stdout, as a table for people or as JSON for programs.

Texts of others may hold anything: what a terminal would obey, or could not show, is written as the
escape that Python and JSON know for it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["note", "print_json", "print_lines", "print_table", "visible"]

# JSON itself escapes what is below a space. C1 controls, marks that turn the direction of writing,
# line separators, half characters:
_RISKY_IN_JSON = re.compile(
    "[\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)


def visible(text: str) -> str:
    """Return the text with all that is not printable, line ends too, written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_json(value: object) -> None:
    """Print one JSON document."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    sys.stdout.write(_RISKY_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Cells are text, whatever brackets they hold."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(table)


def print_lines(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, each on one line however narrow the screen: for grep, say."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def note(text: str) -> None:
    """Tell a person something beside the data: to stderr, so that pipes stay clean."""
    sys.stderr.write("\n".join(map(visible, text.split("\n"))) + "\n")
