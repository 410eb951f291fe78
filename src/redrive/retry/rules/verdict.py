"""What one line of a table says about one exception, and how tables look at exceptions.

Looking is careful: an attribute may be missing, raise, or (on a mock) be truthy nonsense.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from redrive.retry.kinds import Kind

__all__ = [
    "Verdict",
    "answer_text",
    "ask",
    "by_class",
    "class_names",
    "content_of",
    "is_bare",
    "look",
    "look_int",
    "look_str",
    "short_name",
    "text_of",
]

# Packages that share their first name with others are told apart by the second.
_NAMESPACES = frozenset({"google", "azure"})
# What graphs add to an error on its way says nothing of its kind.
_ADDED = frozenset({"__notes__"})
# Patterns are not let loose on a message of megabytes.
_MOST_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
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
) -> Verdict | None:
    """Return what the table says about the most derived class that it names."""
    for name in class_names(exc):
        kind = table.get(name)
        if kind is not None:
            return Verdict(kind, f"class:{name}", f"{name} is {kind.value}", weak)
    return None


def is_bare(exc: BaseException) -> bool:
    """Say whether it is one of Python's own, with nothing added that a table could look at."""
    return type(exc).__module__ == "builtins" and exc.__dict__.keys() <= _ADDED


def look(target: object, name: str) -> object:
    """Return an attribute, or None when there is none or reading it raises."""
    try:
        return getattr(target, name, None)
    except Exception:  # noqa: BLE001 - a property of someone else's class
        return None


def look_int(target: object, name: str) -> int | None:
    """Return an attribute that is a whole number, else None."""
    value = look(target, name)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def look_str(target: object, name: str) -> str | None:
    """Return an attribute that is text, else None."""
    value = look(target, name)
    return value if isinstance(value, str) else None


def ask(target: object, name: str) -> object:
    """Return what a method without arguments returns; None where there is none, or it raises."""
    method = look(target, name)
    if not callable(method):
        return None
    try:
        return method()
    except Exception:  # noqa: BLE001 - a call into someone else's class
        return None


def text_of(exc: BaseException) -> str:
    """Return the beginning of the exception's message; empty when it cannot be printed."""
    try:
        return str(exc)[:_MOST_TEXT]
    except Exception:  # noqa: BLE001 - an exception may not even print
        return ""


def content_of(exc: BaseException) -> bytes:
    """Return the body of the answer as httpx and requests keep it, when it has been read.

    Their public attributes would read it now, from the network.
    """
    content = look(look(exc, "response"), "_content")
    return content if isinstance(content, bytes) else b""


def answer_text(exc: BaseException) -> str:
    """Return the message, and the answer's text where the message leaves it out."""
    body = look(exc, "body")
    kept = body if isinstance(body, str) else content_of(exc)[:_MOST_TEXT].decode(errors="replace")
    return f"{text_of(exc)}\n{kept[:_MOST_TEXT]}"


@lru_cache(maxsize=1024)
def _names(kind: Hashable) -> tuple[str, ...]:
    bases = cast("type", kind).__mro__
    return tuple(_table_name(base) for base in bases if base is not object)


def _table_name(kind: type) -> str:
    parts = kind.__module__.split(".")
    root = ".".join(parts[:2]) if parts[0] in _NAMESPACES else parts[0]
    return f"{root}.{kind.__name__}"
