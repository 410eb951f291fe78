"""Masks secrets in text that we add: errors, tracebacks, log lines. Not a record's own bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from string import ascii_lowercase, ascii_uppercase

from redrive.telemetry.secrets import FORMS, Form, mark

__all__ = ["BUILT_IN", "Redactor"]


class Redactor:
    """Masks secrets: each becomes `[redacted:<what>]`. Masking a masked text changes nothing.

    Args:
        patterns: Regular expressions of secrets of your own, masked first, as `custom`. They must
            be fast: nothing here bounds the time that they take.

    Raises:
        ValueError: One is not a regular expression, or is found in an empty text.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._own = tuple(_compiled(pattern) for pattern in patterns)

    def mask(self, text: str) -> str:
        """Return the text with its secrets masked, in a time that grows with its length."""
        for pattern in self._own:
            text = pattern.sub(_CUSTOM, text)
        # A mark can lay bare the next secret: two keys without a gap, say.
        for _ in range(_MOST_PASSES):
            masked = _masked_once(text)
            if masked == text:
                break
            text = masked
        return text

    def within(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Return JSON data with the secrets in its texts masked, also those that a name tells."""
        return {self.mask(name): self._named(name, value) for name, value in fields.items()}

    def excerpt(self, text: str, limit: int, *, tail: int = 0) -> str:
        """Return at most `limit` characters of the masked text, the last `tail` among them.

        However long the text is, only its two ends are looked at.
        """
        if len(text) > 2 * _WINDOW:
            # A secret that is cut in two is no longer known as one: leave its halves out.
            head = _without_last_word(text[:_WINDOW])
            end = _BEGUN_LATE.sub("", text[-_WINDOW:])
            return _shortened(self.mask(head), self.mask(end), limit, tail)
        whole = self.mask(text)
        return whole if len(whole) <= limit else _shortened(whole, whole, limit, tail)

    def _named(self, name: str, value: object) -> object:
        found = self._inner(value)
        if not isinstance(found, str):
            return found
        pair = json.dumps({name: found}, ensure_ascii=False)
        return found if self.mask(pair) == pair else mark("secret")

    def _inner(self, value: object) -> object:
        match value:
            case str():
                return self.mask(value)
            case dict():
                return self.within(value)
            case list() | tuple():
                return [self._inner(inner) for inner in value]
            case _:
                return value


_CUSTOM = mark("custom")
_MOST_PASSES = 8
_WINDOW = 32_768
_LONGEST_WORD = 4_096
_BEGUN_LATE = re.compile(rf"\A\S{{1,{_LONGEST_WORD}}}")
_GAP = "\n… some of it is left out …\n"


def _without_last_word(text: str) -> str:
    # No pattern: one that seeks its end from each place takes seconds in a text without spaces.
    end = len(text)
    least = max(end - _LONGEST_WORD, 0)
    while end > least and not text[end - 1].isspace():
        end -= 1
    return text[:end]


def _shortened(head: str, end: str, limit: int, tail: int) -> str:
    if not tail:
        return head[: limit - 1] + "…"
    return head[: limit - tail - len(_GAP)] + _GAP + end[-tail:]


def _masked_once(text: str) -> str:
    lower = _lower(text)
    for form in FORMS:
        for hint in form.hints:
            if hint in lower:
                masked = _at_hints(form, text, lower) if form.begins else _anywhere(form, text)
                if masked != text:
                    text, lower = masked, _lower(masked)
                break
    return text


def _lower(text: str) -> str:
    lower = text.lower()
    # A few letters become two, and places would no longer be the same.
    return lower if len(lower) == len(text) else text.translate(_ASCII_LOWER)


_ASCII_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def _anywhere(form: Form, text: str) -> str:
    return form.pattern.sub(form.replace, text)


def _at_hints(form: Form, text: str, lower: str) -> str:
    parts, done = [], 0
    for start in sorted(start for hint in form.hints for start in _places(hint, lower)):
        found = form.pattern.match(text, start) if start >= done else None
        if found is not None:
            new = (
                found.expand(form.replace) if isinstance(form.replace, str) else form.replace(found)
            )
            parts += [text[done:start], new]
            done = found.end()
    return "".join([*parts, text[done:]])


def _places(hint: str, lower: str) -> Iterator[int]:
    start = lower.find(hint)
    while start >= 0:
        yield start
        start = lower.find(hint, start + 1)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        # Not the pattern itself: it may show a secret's beginning. [P15]
        raise ValueError(f"not a regular expression: {error}") from error
    if compiled.search(""):
        raise ValueError("it is found in an empty text, so everywhere: make it longer")
    return compiled


BUILT_IN = Redactor()
"""Masks what is built in, and nothing else."""
