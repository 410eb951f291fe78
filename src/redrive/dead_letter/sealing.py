"""The texts of a letter, sealed and opened: what its error says may hold the event's payload.

The event itself is kept byte for byte, so it is encrypted as its producer sent it. Type, kind,
node, fingerprint, times and ids stay readable. [P6, P15]
"""

from __future__ import annotations

from typing import Any

import structlog
from pydantic_core import to_json

from redrive.dead_letter.record import DeadLetter
from redrive.errors import CodecError
from redrive.payloads import About, Payloads, Sealed
from redrive.sealed_records import read_sealed, told_of

__all__ = ["about_letter", "message_in", "opened_letter", "opened_letter_or_told", "sealed_letter"]

log = structlog.get_logger("redrive.security")


def about_letter(dlq_id: str, event_id: str | None) -> About:
    """Return what names a letter; ids of earlier versions were another event's as well."""
    return ("letter", dlq_id, event_id)


def sealed_letter(letter: DeadLetter, payloads: Payloads) -> DeadLetter:
    """Return the letter as it is to be stored: its texts sealed, where payloads are encoded.

    A codec that fails cannot keep a letter from being stored: then it is stored without its texts.
    """
    if payloads.label is None:
        return letter
    texts = {
        "error": letter.error.message,
        "traceback": letter.error.traceback,
        "notes": letter.error.notes,
        "causes": [cause.message for cause in letter.cause_chain],
        "attempts": [attempt.message for attempt in letter.attempts],
    }
    try:
        sealed = payloads.seal(to_json(texts), about_letter(letter.dlq_id, letter.event_id))
    except Exception as error:  # noqa: BLE001 - a codec of the user's may raise anything
        log.error("codec.failed", what="letter", dlq_id=letter.dlq_id, error=told_of(error))  # noqa: TRY400 - a traceback may hold keys
        return _without_texts(letter, f"left out: {told_of(error)}", None)
    return _without_texts(letter, sealed.told, sealed)


def opened_letter(letter: DeadLetter, payloads: Payloads) -> DeadLetter:
    """Return the letter with its texts; one that is not sealed as it is.

    Raises:
        CodecError: It is sealed, and cannot be opened.
        Exception: Whatever a codec of the user's raises.
    """
    sealed = Sealed.of(letter.sealed)
    if sealed is None:
        return letter
    about = about_letter(letter.dlq_id, letter.event_id)
    texts = read_sealed(payloads.open(sealed, about))
    error = letter.error.model_copy(
        update={
            "message": _text(texts.get("error")),
            "traceback": _text(texts.get("traceback")) or None,
            "notes": _texts(texts.get("notes")),
        }
    )
    return letter.model_copy(
        update={
            "error": error,
            "cause_chain": _with_messages(letter.cause_chain, texts.get("causes")),
            "attempts": _with_messages(letter.attempts, texts.get("attempts")),
            "sealed": None,
        }
    )


def opened_letter_or_told(letter: DeadLetter, payloads: Payloads) -> tuple[DeadLetter, str | None]:
    """Return the letter opened; where that fails, as it is, and in words why."""
    try:
        return opened_letter(letter, payloads), None
    except Exception as error:  # noqa: BLE001 - a codec of the user's may raise anything
        return letter, told_of(error)


def message_in(
    sealed: object, payloads: Payloads, *, dlq_id: str, event_id: str | None
) -> str | None:
    """Return the error's message of a sealed letter, or None where it cannot be opened."""
    found = Sealed.of(sealed)
    if found is None or payloads.codec is None:
        return None
    try:
        texts = read_sealed(payloads.open(found, about_letter(dlq_id, event_id)))
    except Exception:  # noqa: BLE001 - a list shows that it is encrypted
        return None
    return _text(texts.get("error"))


def _without_texts(letter: DeadLetter, told: str, sealed: Sealed | None) -> DeadLetter:
    error = letter.error.model_copy(update={"message": told, "traceback": None, "notes": []})
    hidden = {"message": told}
    return letter.model_copy(
        update={
            "error": error,
            "cause_chain": [cause.model_copy(update=hidden) for cause in letter.cause_chain],
            "attempts": [attempt.model_copy(update=hidden) for attempt in letter.attempts],
            "sealed": None if sealed is None else sealed.as_json(),
        }
    )


def _with_messages(parts: list[Any], messages: object) -> list[Any]:
    """Give each part its message; a list of another length is nobody's of ours."""
    if not isinstance(messages, list) or len(messages) != len(parts):
        raise CodecError("what was decoded of the letter does not fit it")
    return [
        part.model_copy(update={"message": _text(message)})
        for part, message in zip(parts, messages, strict=True)
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [_text(text) for text in value] if isinstance(value, list) else []
