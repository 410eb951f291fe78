"""Many letters, or their groups, in 80 columns: an id is never cut, and never wrapped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from redrive.cli.output import console, visible
from redrive.dead_letter.trend import Trend
from redrive.redriving.groups import LetterGroup
from redrive.redriving.views import LetterSummary
from redrive.units import format_duration

__all__ = [
    "age",
    "failure",
    "group_json",
    "news",
    "print_groups",
    "print_letters",
    "summary_json",
    "totals",
]

_BARS = "▁▂▃▄▅▆▇█"
_INDENT = "    "


def print_letters(letters: Sequence[LetterSummary], now: datetime) -> None:
    """Print two lines for each letter: its id and standing; where it failed, and of what."""
    rows = [
        (letter.dlq_id, letter.state.value, age(now - letter.at), letter.kind.value)
        for letter in letters
    ]
    details = [failure(letter) for letter in letters]
    _print_pairs(("LETTER", "STATE", "AGE", "KIND"), rows, details)


def print_groups(groups: Sequence[LetterGroup], now: datetime) -> None:
    """Print lines for each group: how many, since when; where they failed, and of what.

    One that is new, or rises, has a third line that says so.
    """
    rows = [
        (
            one.fingerprint or "none",
            str(one.open),
            str(one.count),
            age(now - one.first),
            age(now - one.last),
            f"{_spark(one.hours)} {one.trend.value}",
        )
        for one in groups
    ]
    details = [failure(one.newest, workflows=one.workflows) for one in groups]
    more = [news(one, now) for one in groups]
    _print_pairs(
        ("FINGERPRINT", "OPEN", "ALL", "FIRST", "LAST", "LAST 24 HOURS"), rows, details, more
    )


def summary_json(letter: LetterSummary) -> dict[str, object]:
    """Return a summary for programs; times are ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(letter).items()
    }


def group_json(one: LetterGroup) -> dict[str, object]:
    """Return a group for programs; times are ISO 8601."""
    newest = one.newest
    return {
        "fingerprint": one.fingerprint,
        "count": one.count,
        "open": one.open,
        "first": one.first.isoformat(),
        "last": one.last.isoformat(),
        "workflows": list(one.workflows),
        "node": newest.node,
        "kind": newest.kind.value,
        "reason": newest.reason.value,
        "error_type": newest.error_type,
        "message": newest.message,
        "newest": newest.dlq_id,
        "hours": list(one.hours),
        "trend": one.trend.value,
        "recent": one.history.recent,
        "before": one.history.before,
        "first_seen": one.history.first.at.isoformat(),
        "first_version": one.history.first.graph_version,
    }


def news(one: LetterGroup, now: datetime) -> str:
    """Say of a cause that is new, or rises, since when and how much; empty of all others."""
    told, first = one.history, one.history.first
    runs, since = _runs(told.recent), _time(first.at, now)
    if told.trend is Trend.NEW:
        node = f", node {one.newest.node}" if one.newest.node else ""
        version = first.graph_version
        seen = f", first seen with graph version {version}" if version else ""
        return f"new since {since}, {runs}{node}{seen}"
    if told.trend is Trend.RISING:
        window = told.window
        recent, before = _span(window.until - window.since), _span(window.compared)
        spans = f"{runs} in {recent}, {told.before} in the {before} before"
        return f"rising: {spans}; first at {since}"
    return ""


def totals(letters: Iterable[LetterSummary]) -> dict[str, int]:
    """Return how many letters are in each state that occurs, most first."""
    return dict(Counter(letter.state.value for letter in letters).most_common())


def failure(letter: LetterSummary, *, workflows: Sequence[str] = ()) -> str:
    """Say where a run failed, and of what, in one line."""
    where = ", ".join(workflows) or letter.workflow or "unknown workflow"
    node = f"/{letter.node}" if letter.node else ""
    return f"{where}{node}  {letter.error_type}: {letter.message}"


def age(passed: timedelta) -> str:
    """Write how long ago something was, in its largest unit."""
    seconds = max(0, int(passed.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _span(length: timedelta) -> str:
    return format_duration(timedelta(seconds=round(length.total_seconds())))


def _time(at: datetime, now: datetime) -> str:
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def _print_pairs(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    details: Sequence[str],
    more: Sequence[str] = (),
) -> None:
    # One by one, and not as rich's table: that would wrap or cut an id on a narrow screen.
    screen = console(soft_wrap=True, highlight=False)
    cells = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    screen.print(Text(_joined(columns, widths), style="bold"))
    for row, detail, line in zip(cells, details, more or [""] * len(rows), strict=True):
        screen.print(Text(_joined(row, widths)))
        screen.print(Text(_fitted(_INDENT + visible(detail), screen.width), style="dim"))
        if line:
            screen.print(Text(_INDENT + visible(line)))


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _fitted(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _spark(hours: Sequence[int]) -> str:
    top = max(hours)
    if top == 0:
        return _BARS[0] * len(hours)
    # A letter shows, however many came in another hour.
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // top)] for count in hours)
