"""Events and results, sealed and opened: what of them is encrypted, and what stays readable.

Ids, workflows, status, kinds, node, fingerprint, counts and times stay, so that routing, lists and
audits need no key. Letters: `redrive.dead_letter.sealing`.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from redrive.errors import CodecError
from redrive.events import Payload, WorkflowEvent, WorkflowResultEvent
from redrive.payloads import About, Payloads, Sealed

__all__ = [
    "METADATA_SEALED",
    "about_event",
    "opened_event",
    "opened_or_told",
    "opened_result",
    "read_sealed",
    "seal_of_event",
    "seal_of_result",
    "sealed_event",
    "sealed_result",
]

METADATA_SEALED = ("context", "langgraph")
"""Of an event's metadata: what the graph is given beside its input."""


def about_event(event_id: str, workflow_id: str) -> About:
    """Return what names an event: what is sealed for it is for no other, and for no other graph."""
    return ("event", event_id, workflow_id)


def seal_of_event(event: WorkflowEvent) -> Sealed | None:
    """Return what is sealed of an event; None where it came in clear."""
    return Sealed.of(event.payload.data)


def sealed_event(event: WorkflowEvent, payloads: Payloads) -> WorkflowEvent:
    """Return the event as it is to be sent: its payload sealed, where payloads are encoded.

    Raises:
        PydanticSerializationError: The payload is not JSON.
        Exception: Whatever a codec of the user's raises.
    """
    if payloads.label is None:
        return event
    metadata = dict(event.metadata)
    beside = {name: metadata.pop(name) for name in METADATA_SEALED if name in metadata}
    inner: dict[str, object] = {"payload": event.payload}
    if beside:
        inner["metadata"] = beside
    sealed = payloads.seal(
        to_json(inner, inf_nan_mode="null"), about_event(event.event_id, event.workflow_id)
    )
    payload = Payload(data=sealed.as_json())
    return event.model_copy(update={"payload": payload, "metadata": metadata})


def opened_event(event: WorkflowEvent, payloads: Payloads) -> WorkflowEvent:
    """Return the event as its graph takes it; one that came in clear as it is.

    Raises:
        CodecError: It is sealed, and cannot be opened.
        Exception: Whatever a codec of the user's raises.
    """
    sealed = seal_of_event(event)
    if sealed is None:
        return event
    plain = payloads.open(sealed, about_event(event.event_id, event.workflow_id))
    inner = read_sealed(plain)
    try:
        payload = Payload.model_validate(inner.get("payload"))
    except ValidationError:
        raise CodecError("what was decoded of the event holds no payload") from None
    beside = inner.get("metadata")
    # What lies in clear beside it, whoever may write to the topic can have put there.
    clear = {name: value for name, value in event.metadata.items() if name not in METADATA_SEALED}
    metadata = {**clear, **(beside if isinstance(beside, dict) else {})}
    return event.model_copy(update={"payload": payload, "metadata": metadata})


def seal_of_result(result: WorkflowResultEvent) -> Sealed | None:
    """Return what is sealed of a result; None where it came in clear."""
    return Sealed.of(result.result)


def sealed_result(result: WorkflowResultEvent, payloads: Payloads) -> WorkflowResultEvent:
    """Return the result as it is to be sent: what the graph said sealed, where that is encoded.

    Raises:
        PydanticSerializationError: The result is not JSON.
        Exception: Whatever a codec of the user's raises.
    """
    if payloads.label is None:
        return result
    info = result.error_info
    inner = {
        "result": result.result,
        "error": result.error,
        "message": None if info is None else info.message,
    }
    sealed = payloads.seal(to_json(inner, inf_nan_mode="null"), _about_result(result))
    return result.model_copy(
        update={
            "result": sealed.as_json(),
            "error": None if result.error is None else sealed.told,
            "error_info": None if info is None else info.model_copy(update=_hidden(sealed)),
        }
    )


def opened_result(result: WorkflowResultEvent, payloads: Payloads) -> WorkflowResultEvent:
    """Return the result as it was given; one that came in clear as it is.

    Raises:
        CodecError: It is sealed, and cannot be opened.
        Exception: Whatever a codec of the user's raises.
    """
    sealed = seal_of_result(result)
    if sealed is None:
        return result
    inner = read_sealed(payloads.open(sealed, _about_result(result)))
    error, info = inner.get("error"), result.error_info
    if info is not None:
        info = info.model_copy(update={"message": str(inner.get("message") or "")})
    return result.model_copy(
        update={
            "result": inner.get("result"),
            "error": error if isinstance(error, str) else None,
            "error_info": info,
        }
    )


def opened_or_told(
    result: WorkflowResultEvent, payloads: Payloads
) -> tuple[WorkflowResultEvent, str | None]:
    """Return the result opened; where that fails, as it is, and in words why."""
    try:
        return opened_result(result, payloads), None
    except Exception as error:  # noqa: BLE001 - a codec of the user's may raise anything
        return result, told_of(error)


def told_of(error: Exception) -> str:
    """Say why a payload was not opened; of others' errors the class, as their text is anybody's."""
    if isinstance(error, CodecError):
        return str(error)
    return f"the codec raised {type(error).__name__}"


def read_sealed(plain: bytes) -> dict[str, Any]:
    """Return what was sealed.

    Raises:
        CodecError: It is no object.
    """
    try:
        inner = from_json(plain)
    except ValueError:
        inner = None
    if not isinstance(inner, dict):
        raise CodecError("what was decoded is no JSON object")
    return inner


def _hidden(sealed: Sealed) -> dict[str, object]:
    return {"message": sealed.told}


def _about_result(result: WorkflowResultEvent) -> About:
    return ("result", result.correlation_id, result.workflow_id, result.status.value)
