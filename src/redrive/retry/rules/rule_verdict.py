"""What one line of a table says about one exception, and how tables look at exceptions.

Looking is careful: an attribute may be missing, raise, or (on a mock) be truthy nonsense. What
Python itself keeps of an exception (its cause, its members) is read past whatever the class makes
of these names. What an exception raises while it is looked at ends nobody, SystemExit included.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import cast

from redrive.retry.kinds import Kind

__all__ = [
    "RuleVerdict",
    "answer_text",
    "args_of",
    "ask",
    "by_class",
    "cause_of",
    "class_names",
    "content_of",
    "context_of",
    "hidden_context_of",
    "is_bare",
    "look",
    "look_int",
    "look_str",
    "members_of",
    "notes_of",
    "plain_text",
    "repr_of",
    "short_name",
    "text_of",
    "trace_of",
]

# Packages that share their first name with others are told apart by the second.
_NAMESPACES = frozenset({"google", "azure"})
# What graphs add to an error on its way says nothing of its kind.
_ADDED = frozenset({"__notes__"})
# Patterns are not let loose on a message of megabytes.
MAX_TEXT = 10_000
MAX_MEMBERS = 256
"""So many members of a group are looked at."""
MAX_NOTES = 256
# Read past what a class defines under these names.
_OWN = BaseException.__dict__
_CAUSE, _CONTEXT = _OWN["__cause__"], _OWN["__context__"]
_SUPPRESSES, _TRACEBACK, _ARGS = _OWN["__suppress_context__"], _OWN["__traceback__"], _OWN["args"]
_MEMBERS = BaseExceptionGroup.__dict__["exceptions"]


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One judgement, and the rule that made it.

    A `weak` one comes from a general class such as ValueError: what stands in the exception's
    causes may know better.
    """

    kind: Kind
    rule: str
    why: str
    weak: bool = False


def class_names(exc: BaseException) -> tuple[str, ...]:
    """Return the exception's class and its bases as `package.Class`, most derived first."""
    return _names(cast("Hashable", type(exc)))


def short_name(exc: BaseException) -> str:
    """Return the exception's class as `package.Class`."""
    return class_names(exc)[0]


def by_class(
    exc: BaseException, table: Mapping[str, Kind], *, weak: bool = False
) -> RuleVerdict | None:
    """Return what the table says about the most derived class that it names."""
    for name in class_names(exc):
        kind = table.get(name)
        if kind is not None:
            return RuleVerdict(kind, f"class:{name}", f"{name} is {kind.value}", weak)
    return None


def is_bare(exc: BaseException) -> bool:
    """Say whether it is one of Python's own, with nothing added that a table could look at."""
    kept = look(exc, "__dict__")
    return type(exc).__module__ == "builtins" and type(kept) is dict and kept.keys() <= _ADDED


def look(target: object, name: str) -> object:
    """Return an attribute, or None when there is none or reading it raises."""
    try:
        return getattr(target, name, None)
    except BaseException:  # noqa: BLE001 - a property of someone else's class
        return None


def cause_of(exc: BaseException) -> BaseException | None:
    """Return what it was raised from."""
    return cast("BaseException | None", _CAUSE.__get__(exc))


def context_of(exc: BaseException) -> BaseException | None:
    """Return what was being handled when it was raised; None where that is not to be told."""
    if _SUPPRESSES.__get__(exc):
        return None
    return cast("BaseException | None", _CONTEXT.__get__(exc))


def hidden_context_of(exc: BaseException) -> BaseException | None:
    """Return what was being handled, `from None` or not; None where a cause is named."""
    found = _CONTEXT.__get__(exc) if cause_of(exc) is None else None
    return cast("BaseException | None", found)


def trace_of(exc: BaseException) -> TracebackType | None:
    """Return its traceback."""
    return cast("TracebackType | None", _TRACEBACK.__get__(exc))


def args_of(exc: BaseException) -> tuple[object, ...]:
    """Return its arguments."""
    return cast("tuple[object, ...]", _ARGS.__get__(exc))


def members_of(exc: BaseException) -> tuple[BaseException, ...]:
    """Return the members of a group, as many as are looked at; of others none."""
    if not issubclass(type(exc), BaseExceptionGroup):
        return ()
    members = cast("tuple[BaseException, ...]", _MEMBERS.__get__(exc))
    return members[:MAX_MEMBERS]


def notes_of(exc: BaseException) -> list[str]:
    """Return its notes: those that are text, as many as are looked at."""
    notes = look(exc, "__notes__")
    if type(notes) not in (list, tuple):
        return []
    few = cast("list[object] | tuple[object, ...]", notes)[-MAX_NOTES:]
    return [plain_text(note, MAX_TEXT) for note in few if isinstance(note, str)]


def plain_text(text: str, most: int) -> str:
    """Return the beginning of a text as Python's own kind of it, whatever its class overrides."""
    return str.__getitem__(text, slice(0, most))


def look_int(target: object, name: str) -> int | None:
    """Return an attribute that is a whole number, else None."""
    value = look(target, name)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def look_str(target: object, name: str) -> str | None:
    """Return an attribute that is text, else None."""
    value = look(target, name)
    return plain_text(value, MAX_TEXT) if isinstance(value, str) else None


def ask(target: object, name: str) -> object:
    """Return what a method without arguments returns; None where there is none, or it raises."""
    method = look(target, name)
    if not callable(method):
        return None
    try:
        return method()
    except BaseException:  # noqa: BLE001 - a call into someone else's class
        return None


def text_of(exc: BaseException) -> str:
    """Return the beginning of the exception's message; empty when it cannot be printed."""
    try:
        return plain_text(str(exc), MAX_TEXT)
    except BaseException:  # noqa: BLE001 - an exception may not even print
        return ""


def repr_of(exc: BaseException) -> str:
    """Return the beginning of its `repr`; of a group what it says, since that may have no end."""
    if issubclass(type(exc), BaseExceptionGroup):
        return f"{_table_name(type(exc))}({text_of(exc)!r})"
    try:
        return plain_text(repr(exc), MAX_TEXT)
    except BaseException as raised:  # noqa: BLE001 - an exception may not even print
        return f"{_table_name(type(exc))}(its __repr__ raised {type(raised).__name__})"


def content_of(exc: BaseException) -> bytes:
    """Return the body of the answer as httpx and requests keep it, when it has been read.

    Their public attributes would read it now, from the network.
    """
    content = look(look(exc, "response"), "_content")
    return content if isinstance(content, bytes) else b""


def answer_text(exc: BaseException) -> str:
    """Return the message, and the answer's text where the message leaves it out."""
    body = look(exc, "body")
    kept = body if isinstance(body, str) else content_of(exc)[:MAX_TEXT].decode(errors="replace")
    return f"{text_of(exc)}\n{kept[:MAX_TEXT]}"


@lru_cache(maxsize=1024)
def _names(kind: Hashable) -> tuple[str, ...]:
    bases = cast("type", kind).__mro__
    return tuple(_table_name(base) for base in bases if base is not object)


def _table_name(kind: type) -> str:
    parts = (look_str(kind, "__module__") or "?").split(".")
    root = ".".join(parts[:2]) if parts[0] in _NAMESPACES else parts[0]
    return f"{root}.{kind.__name__}"
