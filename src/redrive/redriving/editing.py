"""Changing the text of one event; what is not meant stays as it was, to the digit. Pure.

It works on the text, not on parsed values: the order of keys, a number that Python would round and
a key that is there twice are the producer's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from redrive.errors import RecordError
from redrive.events import TRIGGERED, WorkflowEvent, readable_event_id

__all__ = [
    "Change",
    "check_event",
    "compact",
    "pretty",
    "same",
    "set_values",
    "text_at",
    "text_of",
]

_PARTS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_BLANK = re.compile(r"[ \t\n\r]*")
_DOT = re.compile(r"(?<!\\)\.")
_OPENING, _CLOSING = frozenset("{["), frozenset("}]")
_MOST_NAMES = 12
_TYPES = {
    '"': "text",
    "{": "an object",
    "[": "a list",
    "t": "true or false",
    "f": "true or false",
    "n": "null",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A value, as JSON text, and the names that lead to it: keys, and numbers within lists."""

    path: tuple[str, ...]
    value: str

    @classmethod
    def parse(cls, text: str) -> Change:
        r"""Read `payload.data.iban=VALUE`: VALUE is JSON, else text; `\.` is a dot within a key.

        Raises:
            ValueError: It is not of that form.
        """
        path, equals, value = text.partition("=")
        names = tuple(name.replace("\\.", ".") for name in _DOT.split(path))
        if not equals or not all(names):
            raise ValueError(f"{path[:80]!r} is not PATH=VALUE, as in payload.data.iban=DE02")
        return cls(names, value.strip() if _is_json(value) else _quoted(value))

    def __str__(self) -> str:
        return _dotted(self.path)


def text_of(event: bytes | None) -> str:
    """Return an event's text.

    Raises:
        RecordError: It has none.
    """
    if event is None:
        raise RecordError("the event has no value")
    try:
        return event.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecordError(f"the event's {len(event)} bytes are not UTF-8 text") from None


def set_values(text: str, changes: Sequence[Change]) -> tuple[str, list[str]]:
    """Return the event's text with values replaced, or added to an object.

    Beside it, in words, what may not be meant: values that are new, or of another type.

    Raises:
        RecordError: The text is not JSON, or a path leads nowhere; names how far it led.
    """
    _parse(text)
    remarks = []
    for change in changes:
        text, before = _set(text, change)
        was, now = _type(before), _type(change.value)
        if before is None:
            remarks.append(f"{change} is new")
        elif was != now:
            remarks.append(f"{change} was {was}, and is {now} now")
    return text, remarks


def text_at(text: str, path: tuple[str, ...]) -> str:
    """Return the text of the value that these names lead to, as it stands.

    Raises:
        RecordError: The text is not JSON, or there is no such value.
    """
    _parse(text)
    start, end = _past_blank(text, 0), len(text)
    for depth, name in enumerate(path):
        members = _members_at(text, start, path[:depth])
        if name not in members:
            _not_there(path[: depth + 1], members, text[start])
        start, end = members[name].start, members[name].end
    return text[start:end]


def pretty(text: str) -> str:
    r"""Return the JSON for people, one value a line, with letters in place of their `\u` escapes.

    Raises:
        RecordError: It is not JSON.
    """
    _parse(text)
    parts, depth, before = list[str](), 0, ""
    for part in _PARTS.findall(text):
        depth -= part in _CLOSING
        if (before in _OPENING or before == ",") != (part in _CLOSING):
            parts.append("\n" + "  " * depth)
        parts.append(": " if part == ":" else _legible(part))
        depth += part in _OPENING
        before = part
    return "".join(parts) + "\n"


def compact(text: str) -> str:
    """Return the JSON without the space between its values.

    Raises:
        RecordError: It is not JSON.
    """
    _parse(text)
    return "".join(_PARTS.findall(text))


def same(text: str, other: str) -> bool:
    """Say whether two texts hold the same values, whatever the space between them."""
    try:
        return compact(text) == compact(other)
    except RecordError:
        return text.strip() == other.strip()


def check_event(text: str, *, event_id: str | None) -> None:
    """Check that a worker would run what is to take an event's place.

    Args:
        text: The changed event.
        event_id: That of the letter's event, which has to stay, where it can be read.

    Raises:
        RecordError: It is no event, or another one; names the field.
    """
    _parse(text)
    # Half characters come in by the command line, and are not UTF-8: then it is no event.
    value = text.encode("utf-8", "surrogatepass")
    event = WorkflowEvent.from_bytes(value)
    if event.event_type != TRIGGERED:
        raise RecordError(f"its event_type is {event.event_type!r}, not {TRIGGERED!r}")
    if event_id not in (None, readable_event_id(value)):
        raise RecordError(f"its event_id has to stay {event_id!r}: who waits for it knows it")


def _is_json(text: str) -> bool:
    try:
        _STRICT.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _parse(text: str) -> None:
    try:
        _DECODER.decode(text)
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"it is not JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class _JsonMember:
    """A value within an object or a list: its name, and where its text begins and ends."""

    name: str
    start: int
    end: int


def _set(text: str, change: Change) -> tuple[str, str | None]:
    """Return the text with the value in it, and what was there before."""
    *way, last = change.path
    start = _past_blank(text, 0)
    for depth, name in enumerate(way):
        members = _members_at(text, start, change.path[:depth])
        if name not in members:
            _not_there(change.path[: depth + 1], members, text[start])
        start = members[name].start
    members = _members_at(text, start, tuple(way))
    if last in members:
        found = members[last]
        before = text[found.start : found.end]
        return text[: found.start] + change.value + text[found.end :], before
    if text[start] == "[":
        _not_there(change.path, members, "[")
    pair = f"{_quoted(last)}:{change.value}"
    if not members:
        return text[: start + 1] + pair + text[start + 1 :], None
    end = max(member.end for member in members.values())
    return f"{text[:end]},{pair}{text[end:]}", None


def _members_at(text: str, start: int, path: tuple[str, ...]) -> dict[str, _JsonMember]:
    if text[start] not in _OPENING:
        what = _dotted(path) or "the event"
        raise RecordError(f"{what} is neither an object nor a list", field=_dotted(path))
    # Of a key that is there twice, the last one counts: as JSON readers have it.
    return {member.name: member for member in _members(text, start)}


def _members(text: str, start: int) -> Iterator[_JsonMember]:
    at, number = _past_blank(text, start + 1), 0
    while text[at] not in _CLOSING:
        name = str(number)
        if text[start] == "{":
            name, at = _DECODER.raw_decode(text, at)
            at = _past_blank(text, _past_blank(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        yield _JsonMember(name, at, end)
        at, number = _past_blank(text, end), number + 1
        if text[at] == ",":
            at = _past_blank(text, at + 1)


def _not_there(path: tuple[str, ...], members: dict[str, _JsonMember], opening: str) -> NoReturn:
    where = _dotted(path[:-1]) or "the event"
    names = ", ".join(list(members)[:_MOST_NAMES]) + ("…" if len(members) > _MOST_NAMES else "")
    if opening == "[":
        names = f"a list of {len(members)}, counted from 0"
    raise RecordError(
        f"{_dotted(path)} is not there: {where} has {names or 'nothing'}", field=_dotted(path)
    )


def _type(value: str | None) -> str:
    return _TYPES.get((value or "")[:1], "a number")


def _dotted(path: Sequence[str]) -> str:
    return ".".join(name.replace(".", "\\.") for name in path)


def _past_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def _legible(text: str) -> str:
    if "\\u" not in text:
        return text
    held = json.loads(text)
    return _quoted(held) if held.isprintable() else text


# Numbers stay text: Python would refuse a very long one, and need not know what it is worth.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_STRICT = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)
