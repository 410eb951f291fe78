"""Prints the timeline as it happens: styled on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from redrive.demo.telling import Happening, Mood, Who

__all__ = ["Timeline"]

_WHO_STYLE = {
    Who.AIRFLOW: "cyan",
    Who.KAFKA: "magenta",
    Who.WORKER: "blue",
    Who.USER: "bold",
}
_MOOD_STYLE = {Mood.PLAIN: "", Mood.GOOD: "green", Mood.TROUBLE: "yellow", Mood.BAD: "red"}
_WHO_WIDTH = max(len(who) for who in Who)


class Timeline:
    """One line per happening: seconds since the start, who, what.

    Args:
        console: Where to.
        began: When the demo began, in epoch seconds.
    """

    def __init__(self, console: Console, *, began: float) -> None:
        self._console = console
        self._began = began
        self._status = console.status("starting")

    def __enter__(self) -> Self:
        # Turns on a terminal only; elsewhere nothing is printed for it.
        self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._status.stop()

    def waiting_for(self, what: str) -> None:
        """Say at the bottom of a terminal what is being waited for."""
        self._status.update(Text(what, style="dim"))

    def add(self, happening: Happening) -> None:
        """Print a line."""
        time = f"{happening.at - self._began:5.1f}s"
        if not self._console.is_terminal:
            line = f"{time}  {happening.who:<{_WHO_WIDTH}}  {happening.text}"
            self._console.print(Text(line), soft_wrap=True)
            return
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True, width=_WHO_WIDTH)
        row.add_column()
        row.add_row(
            Text(time, style="dim"),
            Text(happening.who, style=_WHO_STYLE[happening.who]),
            Text(happening.text, style=_MOOD_STYLE[happening.mood]),
        )
        self._console.print(row)
