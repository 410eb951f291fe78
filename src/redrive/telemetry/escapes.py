r"""A text without its escapes, which knows where each of its characters came from.

`password%3Dhunter2` and `\u0022password\u0022` are seen as what they stand for, one level after
the other; what is found there is masked in the text as it was.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

__all__ = ["Unescaped", "unescaped"]

# Begins with one of three characters, for which a text is searched fast.
_ESCAPE = re.compile(
    r"[%\\&](?:(?<=%)([2-7][0-9A-Fa-f])|(?<=\\)\\{0,3}(?:u00|x)([2-7][0-9A-Fa-f])"
    r"|(?<=\\)\\{0,3}u\{00([2-7][0-9A-Fa-f])\}|(?<=&)#x0{0,2}([2-7][0-9A-Fa-f]);"
    r"|(?<=&)#0{0,2}(\d{2,3});|(?<=&)(quot|apos|amp|lt|gt|equals|colon);)",
    re.IGNORECASE,
)
_NAMED = {
    "quot": '"', "apos": "'", "amp": "&", "lt": "<", "gt": ">", "equals": "=", "colon": ":",
}  # fmt: skip
_FIRST, _LAST = 0x20, 0x7E


@dataclass(frozen=True, slots=True)
class Unescaped:
    """The text, and where in the one with escapes its characters stand."""

    text: str
    _breaks: tuple[int, ...]
    _shifts: tuple[int, ...]

    def place(self, at: int) -> int:
        """Return where that was before: of a character its begin, of what ends there its end."""
        return at + self._shifts[bisect_right(self._breaks, at) - 1]


def unescaped(text: str) -> Unescaped | None:
    """Return the text with its escapes of printable ASCII resolved; None if there are none."""
    if "%" not in text and "\\" not in text and "&" not in text:
        return None
    parts: list[str] = []
    breaks, shifts = [0], [0]
    done = length = 0
    for found in _ESCAPE.finditer(text):
        char = _char(found)
        if char is None:
            continue
        before = text[done : found.start()]
        parts += [before, char]
        length += len(before) + 1
        done = found.end()
        breaks.append(length)
        shifts.append(done - length)
    if not parts:
        return None
    return Unescaped("".join([*parts, text[done:]]), tuple(breaks), tuple(shifts))


def _char(found: re.Match[str]) -> str | None:
    if found[6]:
        return _NAMED[found[6].lower()]
    code = int(found[5]) if found[5] else int(found[found.lastindex or 1], 16)
    return chr(code) if _FIRST <= code <= _LAST else None
