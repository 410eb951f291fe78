"""The text of a failure as we tell it: masked, bounded, and such that any JSON writer takes it.

How secrets look is in `redrive.telemetry.secrets`. The bytes of an event are never altered: the
topic's access rights guard them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from redrive.retry.rules.rule_verdict import plain_text
from redrive.telemetry.redactor import BUILT_IN, MARGIN_CHARS, Redactor

__all__ = [
    "BUILT_IN",
    "MAX_MESSAGE_CHARS",
    "SILENT",
    "Redactor",
    "masked",
    "masked_all",
    "message_of",
    "qualified",
    "readable",
]

MAX_MESSAGE_CHARS = 2_000
MAX_TYPE_CHARS = 500
SHORTEST_CHARS = 100
MAX_READ_CHARS = 100_000
"""So much of a text is taken of an exception; far less is kept."""
_MODULE, _NAME = type.__dict__["__module__"], type.__dict__["__qualname__"]
SILENT = "no text: it was not told in time"
"""What is told of an exception that is not asked, since it did not answer before."""


def masked(text: str, redactor: Redactor, *, limit: int = MAX_MESSAGE_CHARS, tail: int = 0) -> str:
    """Return text that can be published: at most `limit` characters, the last `tail` among them."""
    return _excerpt(redactor, _writable(text), limit, tail)


def masked_all(
    texts: Iterable[str], redactor: Redactor, *, limit: int = MAX_MESSAGE_CHARS, most: int
) -> list[str]:
    """Return texts that can be published; the first ones whole, as far as `most` characters go."""
    found = []
    for text in texts:
        length = min(len(text), limit + MARGIN_CHARS)
        if length <= most:
            found.append(masked(text, redactor, limit=limit))
        else:
            # What there is left may be no more than a secret's beginning.
            left = most - MARGIN_CHARS
            found.append(masked(text, redactor, limit=left) if left > SHORTEST_CHARS else "…")
        most -= min(length, most)
    return found


@lru_cache(maxsize=16)
def _excerpt(redactor: Redactor, text: str, limit: int, tail: int) -> str:
    # The message of one failure is told in its attempt, its letter and its causes.
    return redactor.excerpt(text, limit, tail=tail)


def readable(text: str, *, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Return text that any JSON writer takes, cut to `limit` characters. Nothing is masked.

    Half characters (lone surrogates), which JSON cannot hold, are written as escapes.
    """
    whole = _writable(text)
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def message_of(error: BaseException) -> str:
    """Return the error's text, not masked; an exception may fail to give one."""
    try:
        return plain_text(str(error), MAX_READ_CHARS)
    except BaseException as failed:  # noqa: BLE001 - the class is the user's
        return f"no text: its __str__ raised {type(failed).__name__}"


def qualified(error: BaseException) -> str:
    """Return the error's class, with its module if that is not Python's own."""
    # Past whatever its metaclass makes of these names: it may be all that can be told of it.
    module, name = _MODULE.__get__(type(error)), _NAME.__get__(type(error))
    module = plain_text(module, MAX_TYPE_CHARS) if issubclass(type(module), str) else "?"
    return readable(f"{module}.{name}".removeprefix("builtins."), limit=MAX_TYPE_CHARS)


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
