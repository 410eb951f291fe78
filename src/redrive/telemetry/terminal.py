"""Others' texts on a terminal: what it would obey, or could not show, is written as its escape.

Topics, letters, errors and names hold what their writers chose: sequences that move the cursor or
rename the window, marks that turn the direction of writing, line ends that begin a line of their
own. Whatever the command prints goes through here, its logs too. [P15]
"""

from __future__ import annotations

import traceback

__all__ = ["trace_of", "visible", "visible_lines"]


def visible(text: str) -> str:
    """Return the text on one line, all that is not printable written as Python's escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str, *, indent: str = "") -> str:
    """Return the same with its line ends kept: for a text whose lines are ours.

    Those of a traceback are not, as a message may have several: indented, they pass for no other.
    """
    return "\n".join(indent + visible(line) for line in text.split("\n"))


def trace_of(error: BaseException) -> str:
    """Return the traceback of an error, masked."""
    from redrive.telemetry.redactor import BUILT_IN  # noqa: PLC0415 - for bugs alone

    return BUILT_IN.mask("".join(traceback.format_exception(error)))
