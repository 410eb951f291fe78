"""The text of a failure as we tell it: masked, bounded, and such that any JSON writer takes it.

How secrets look is in `redrive.telemetry.secrets`. The bytes of an event are never altered: the
topic's access rights guard them.
"""

from __future__ import annotations

from redrive.telemetry.redact import BUILT_IN, Redactor

__all__ = [
    "BUILT_IN",
    "MAX_MESSAGE_CHARS",
    "Redactor",
    "masked",
    "message_of",
    "qualified",
    "readable",
]

MAX_MESSAGE_CHARS = 2_000
MAX_TYPE_CHARS = 500


def masked(text: str, redactor: Redactor, *, limit: int = MAX_MESSAGE_CHARS, tail: int = 0) -> str:
    """Return text that can be published: at most `limit` characters, the last `tail` among them."""
    return redactor.excerpt(_writable(text), limit, tail=tail)


def readable(text: str, *, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Return text that any JSON writer takes, cut to `limit` characters. Nothing is masked.

    Half characters (lone surrogates), which JSON cannot hold, are written as escapes.
    """
    whole = _writable(text)
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def message_of(error: BaseException) -> str:
    """Return the error's text, not masked; an exception may fail to give one."""
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001 - the class is the user's
        return f"no text: its __str__ raised {type(failed).__name__}"


def qualified(error: BaseException) -> str:
    """Return the error's class, with its module if that is not Python's own."""
    cls = type(error)
    named = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    return readable(named, limit=MAX_TYPE_CHARS)


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
