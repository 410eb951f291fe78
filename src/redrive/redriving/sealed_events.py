"""The events of letters whose payload is encrypted: their text opened, and sealed again.

What is opened is the text that the producer sealed, to the digit, as `redrive.redriving.editing`
has it.
"""

from __future__ import annotations

import json

from redrive.errors import CodecError, RecordError
from redrive.events import WorkflowEvent
from redrive.json_texts import parsed_json
from redrive.payloads import Payloads, Sealed
from redrive.redriving.editing import Change, set_values, text_at
from redrive.sealed_records import METADATA_SEALED, about_event, sealed_event

__all__ = ["open_text", "opened_draft", "seal_in", "seal_text", "sealed_draft"]


def seal_in(text: str | bytes | None) -> Sealed | None:
    """Return what is sealed in an event's text; None where nothing is, or it is no event."""
    found = _parsed(text)
    payload = found.get("payload") if found is not None else None
    return Sealed.of(payload.get("data")) if isinstance(payload, dict) else None


def open_text(text: str, payloads: Payloads) -> str:
    """Return an event's text with its payload decoded; one that is in clear as it is.

    Raises:
        CodecError: It is sealed, and cannot be opened.
        Exception: Whatever a codec of the user's raises.
    """
    sealed, event = seal_in(text), _parsed(text)
    if sealed is None or event is None:
        return text
    names = event.get("event_id"), event.get("workflow_id")
    if not all(isinstance(name, str) for name in names):
        raise CodecError("the event is encrypted, and has no event_id and workflow_id as text")
    plain = payloads.open(sealed, about_event(*map(str, names)))
    try:
        inner = plain.decode()
        changes = [Change(("payload",), text_at(inner, ("payload",)))]
        beside, clear = json.loads(inner).get("metadata") or {}, event.get("metadata")
        if beside and not isinstance(clear, dict):
            changes.append(Change(("metadata",), "{}"))
        elif isinstance(clear, dict):
            # Not what somebody has put there in clear: sealed again, it would hold.
            others = clear.keys() & set(METADATA_SEALED) - beside.keys()
            changes += [Change(("metadata", name), "null") for name in sorted(others)]
        changes += [
            Change(("metadata", name), text_at(inner, ("metadata", name))) for name in beside
        ]
        return set_values(text, changes)[0]
    except (RecordError, UnicodeDecodeError, ValueError, AttributeError, TypeError):
        raise CodecError("what was decoded of the event holds no payload") from None


def seal_text(text: str, payloads: Payloads) -> str:
    """Return an event's text with its payload sealed.

    Raises:
        RecordError: It is no event.
        CodecError: There is no codec.
        Exception: Whatever a codec of the user's raises.
    """
    event = WorkflowEvent.from_bytes(text.encode("utf-8", "surrogatepass"))
    # An event that was encrypted stays so, also while nothing new is.
    return sealed_event(event, Payloads(payloads.codec)).to_bytes().decode()


def sealed_draft(text: bytes, dlq_id: str, payloads: Payloads) -> bytes:
    """Return what a person typed, sealed as a whole: it may be no event yet.

    Raises:
        CodecError: There is no codec.
        Exception: Whatever a codec of the user's raises.
    """
    return json.dumps(payloads.seal(text, ("draft", dlq_id)).as_json()).encode()


def opened_draft(text: bytes, dlq_id: str, payloads: Payloads) -> bytes:
    """Return what a person typed; what is no sealed draft as it is.

    Raises:
        CodecError: It is sealed, and cannot be opened.
        Exception: Whatever a codec of the user's raises.
    """
    sealed = Sealed.of(_parsed(text))
    return text if sealed is None else payloads.open(sealed, ("draft", dlq_id))


def _parsed(text: str | bytes | None) -> dict[str, object] | None:
    try:
        found = parsed_json(text or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
