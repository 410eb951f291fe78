"""Masks secrets in text that we add: errors, tracebacks, log lines. Not a record's own bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redrive.telemetry.escapes import unescaped
from redrive.telemetry.personal import Personal, personal_in
from redrive.telemetry.secret_keys import Span
from redrive.telemetry.secret_looks import mark
from redrive.telemetry.secrets import secret_named, secrets_in

__all__ = ["BUILT_IN", "MARGIN_CHARS", "Redactor"]


class Redactor:
    """Masks secrets: each becomes `[redacted:<what>]`. Masking a masked text changes nothing.

    Args:
        patterns: Regular expressions of secrets of your own, masked first, as `custom`. They must
            be fast: nothing here bounds the time that they take.
        personal: Sorts of personal data to be masked as well.

    Raises:
        ValueError: One is not a regular expression, or is found in an empty text.
    """

    def __init__(self, patterns: Iterable[str] = (), *, personal: Iterable[Personal] = ()) -> None:
        self._own = tuple(_compiled(pattern) for pattern in patterns)
        self._personal = tuple(personal)

    def mask(self, text: str) -> str:
        """Return the text with its secrets masked, in a time that grows with its length."""
        for pattern in self._own:
            text = pattern.sub(_CUSTOM, text)
        # A mark can lay bare the next secret: two keys without a gap, say.
        for _ in range(_MOST_PASSES):
            spans = self._found(text)
            if not spans:
                break
            text = _with_marks(text, spans)
        return text

    def within(self, fields: Mapping[str, object], *, most: int | None = None) -> dict[str, object]:
        """Return JSON data with the secrets in its texts masked, also those that a name tells.

        Args:
            fields: The data.
            most: So many characters of all long texts together are told at most, and half as many
                of names and short ones.
        """
        return self._within(fields, None if most is None else _Budget(most, most // 2))

    def _within(self, fields: Mapping[str, object], budget: _Budget | None) -> dict[str, object]:
        # {"name": "password", "value": "…"}: a name beside its value.
        called = next((fields[key] for key in _NAMES if isinstance(fields.get(key), str)), None)
        return {
            self._text(name, budget): self._named(
                str(called) if called is not None and name in _VALUES else name, value, budget
            )
            for name, value in fields.items()
        }

    def _text(self, text: str, budget: _Budget | None) -> str:
        if budget is None:
            return self.mask(text)
        if len(text) <= _SHORT_CHARS:
            budget.short_chars -= len(text) + 1
            return self.mask(text) if budget.short_chars > 0 else "…"
        # Half of what is left: no text leaves nothing for those behind it.
        left = budget.chars // 2
        budget.chars -= min(len(text), left)
        if len(text) <= left:
            return self.mask(text)
        if left < _SHORT_CHARS:
            return "…"
        # A traceback says at its end what went wrong.
        return self.excerpt(text, left, tail=left // 2 if left >= _LEAST_OF_BOTH_ENDS else 0)

    def excerpt(self, text: str, limit: int, *, tail: int = 0) -> str:
        """Return at most `limit` characters of the masked text, the last `tail` among them.

        However long the text is, little more than what is kept is looked at: masking hostile text
        takes a microsecond for each character, and other runs wait for it. [P7]
        """
        first, last = limit - tail + MARGIN_CHARS, tail + _LONGEST_WORD if tail else 0
        if len(text) > first + last:
            # A secret that is cut in two is no longer known as one: leave its halves out.
            head = _without_last_word(text[:first])
            end = _BEGUN_LATE.sub("", text[len(text) - last :])
            return _shortened(self.mask(head), self.mask(end), limit, tail)
        whole = self.mask(text)
        return whole if len(whole) <= limit else _shortened(whole, whole, limit, tail)

    def named(self, name: str, value: object) -> object:
        """Return the value of this name, masked: all of it where the name says that it is one."""
        return self._named(name, value, None)

    def _named(self, name: str, value: object, budget: _Budget | None) -> object:
        told = value if isinstance(value, str) else json.dumps(value) if _is_number(value) else None
        what = None if told is None else secret_named(name, told)
        return self._inner(value, budget) if what is None else mark(what)

    def _found(self, text: str, level: int = 0) -> list[Span]:
        """Return all secrets, also those that are seen only where escapes are resolved."""
        spans = [*secrets_in(text), *personal_in(text, self._personal)]
        view = unescaped(text) if level < _MOST_LEVELS else None
        if view is not None:
            spans += [
                (view.place(begins), view.place(ends), what)
                for begins, ends, what in self._found(view.text, level + 1)
            ]
        return spans

    def _inner(self, value: object, budget: _Budget | None) -> object:
        match value:
            case str():
                return self._text(value, budget)
            case dict():
                return self._within(value, budget)
            case list() | tuple():
                return [self._inner(inner, budget) for inner in value]
            case _:
                return value


@dataclass(slots=True)
class _Budget:
    """What may still be told: names and short texts have a part that no long one takes."""

    chars: int
    short_chars: int


_SHORT_CHARS, _LEAST_OF_BOTH_ENDS = 200, 4_000
_NAMES = ("name", "key", "field", "param", "parameter", "property", "header")
_VALUES = frozenset({"value", "Value", "default"})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CUSTOM = mark("custom")
_MOST_PASSES = 8
# `%25253D`, JSON in JSON in JSON.
_MOST_LEVELS = 3
MARGIN_CHARS = 1_024
"""So much more is looked at than is kept: a secret may lie where the text is cut."""
_LONGEST_WORD = 4_096
_BEGUN_LATE = re.compile(rf"\A\S{{1,{_LONGEST_WORD}}}")
_GAP = "\n… some of it is left out …\n"


def _without_last_word(text: str) -> str:
    # No pattern: one that seeks its end from each place takes seconds in a text without spaces.
    end = len(text)
    least = max(end - MARGIN_CHARS, 0)
    while end > least and not text[end - 1].isspace():
        end -= 1
    return text[:end]


def _shortened(head: str, end: str, limit: int, tail: int) -> str:
    if not tail:
        return head[: limit - 1] + "…"
    return head[: limit - tail - len(_GAP)] + _GAP + end[-tail:]


def _with_marks(text: str, spans: list[Span]) -> str:
    """Put a mark in the place of each; of those that overlap, the first one names it."""
    parts, done = [], 0
    # Of equal ones the first that was found stays first: a form says more than a name.
    for begins, ends, what in sorted(spans, key=lambda span: (span[0], -span[1])):
        if begins >= done:
            parts += [text[done:begins], mark(what)]
        done = max(done, ends)
    return "".join([*parts, text[done:]])


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
