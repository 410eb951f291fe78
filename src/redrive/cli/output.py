"""What commands print: data to stdout, as a table for people or as JSON for programs.

The one way to a terminal: nothing else in the commands writes to stdout or stderr. Texts of others
may hold anything; `redrive.telemetry.terminal` says what is shown of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from redrive.telemetry.terminal import visible, visible_lines

__all__ = [
    "agreed",
    "console",
    "note",
    "print_json",
    "print_lines",
    "print_table",
    "say",
    "status",
    "visible",
]

_CLEAR_LINE = "\r\x1b[K"


def say(text: str = "") -> None:
    """Print a line of text: data, for people."""
    sys.stdout.write(visible(text) + "\n")


def note(text: str) -> None:
    """Tell a person something beside the data: to stderr, so that pipes stay clean.

    Its line ends are ours: who puts others' text into it makes that `visible` first.
    """
    sys.stderr.write(visible_lines(text) + "\n")


def status(text: str = "") -> None:
    """Show on stderr, in place of the last one, what is being done; nothing clears it."""
    sys.stderr.write(_CLEAR_LINE + visible(text))
    sys.stderr.flush()


def agreed(question: str, *, default: bool = False, abort: bool = False, err: bool = False) -> bool:
    """Ask a person, and return what was answered."""
    return typer.confirm(visible(question), default=default, abort=abort, err=err)


def print_json(value: object) -> None:
    """Print one JSON document."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    sys.stdout.write("\n".join(map(_escaped, text.split("\n"))) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Cells are text, whatever brackets they hold."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console().print(table)


def print_lines(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, each on one line however narrow the screen: for grep, say."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def console(**options: Any) -> Console:
    """Return rich's console, which styles; it escapes what it is given to show."""
    return _Escaping(**options)


class _Escaping(Console):
    """Escapes each piece of text after its layout, and before its style is put around it."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for piece in super().render(renderable, options):
            if piece.control or piece.text.isprintable():
                yield piece
            else:
                yield Segment(visible_lines(piece.text), piece.style)


def _escaped(line: str) -> str:
    """Escape what is not printable as JSON does: outside of its texts there is no such thing."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
