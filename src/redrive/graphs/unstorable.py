"""A value that no checkpoint can hold: which node wrote it, and where in the state it lies.

A serialiser says only of which type it is. It is looked for after a failure: a good value costs
nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.types import Send
from pydantic import BaseModel

from redrive.errors import StateTypeError

__all__ = ["explain_unstorable", "writer_of"]

_MOST_DEPTH = 50
_MOST_CHARS = 60
_SENDS = "__pregel_tasks"
# LangGraph's own names of what is no key of the state.
_PLACES = {
    "__root__": "state",
    "__start__": "input",
    _SENDS: "sends",
    "__interrupt__": "the value of the interrupt",
    "__return__": "the returned value",
    "__end__": "the returned value",
    "__previous__": "the saved value",
}
_PULLED = re.compile(r"~__pregel_pull, (.+)")
_SENT = re.compile(r"~__pregel_push, (\d+)(, .*)?")


def explain_unstorable(
    error: Exception,
    values: Iterable[tuple[str, object]],
    serde: SerializerProtocol,
    *,
    writers: Mapping[str, str],
) -> None:
    """Raise an error that names the place, if one of `values` is what cannot be stored.

    Args:
        error: What storing them raised.
        values: By the name of their channel.
        serde: What could not serialise them.
        writers: The node that wrote a channel, where that is known.

    Raises:
        TypeError: The serialiser cannot store it.
        StateTypeError: It could not be read again.
    """
    sends = 0
    for channel, value in values:
        name = _PLACES.get(channel, f"state[{channel!r}]")
        if channel == _SENDS and isinstance(value, Send):
            name, sends = f"{name}[{sends}]", sends + 1
        if (why := _refused(value, serde)) is None:
            continue
        place, what = _deepest(value, name, serde)
        node = writers.get(channel)
        if isinstance(why, StateTypeError):
            of_type = StateTypeError(why.types, place=place, node=node)
            raise _noted(of_type, node) from error
        writer = f" of node {node!r}" if node else ""
        kind = f"{type(what).__module__}.{type(what).__qualname__}".removeprefix("builtins.")
        refused = TypeError(
            f"{place}{writer} cannot be stored in a checkpoint: it is of type {kind} "
            f"({_refusal(what, serde)}); make it in the node that needs it, or declare its key as "
            "an UntrackedValue"
        )
        raise _noted(refused, node) from error


def writer_of(task_path: str, sends: Sequence[object]) -> str | None:
    """Return the node of a task, from its path as a checkpointer gets it.

    Args:
        task_path: As given to `put_writes`.
        sends: The `Send`s of the checkpoint that the task belongs to.
    """
    pulled, sent = _PULLED.fullmatch(task_path), _SENT.fullmatch(task_path)
    if pulled is not None:
        return pulled[1]
    if sent is None or int(sent[1]) >= len(sends):
        return None
    send = sends[int(sent[1])]
    return send.node if isinstance(send, Send) else None


def _noted(error: Exception, node: str | None) -> Exception:
    if node:
        # As LangGraph notes a node that raises.
        error.add_note(f"During task with name '{node}' and id ''")
    return error


def _refused(value: object, serde: SerializerProtocol) -> Exception | None:
    try:
        serde.dumps_typed(value)
    except Exception as error:  # noqa: BLE001 - data: why it cannot be stored
        return error
    return None


def _refusal(value: object, serde: SerializerProtocol) -> str | None:
    error = _refused(value, serde)
    return None if error is None else f"{type(error).__name__}: {error}"


def _deepest(value: object, place: str, serde: SerializerProtocol) -> tuple[str, object]:
    for _ in range(_MOST_DEPTH):
        for name, item in _items(value):
            if _refusal(item, serde) is not None:
                value, place = item, place + name
                break
        else:
            break
    return place, value


def _items(value: object) -> Iterator[tuple[str, Any]]:
    match value:
        case Mapping():
            yield from ((f"[{_short(key)}]", item) for key, item in value.items())
        case list() | tuple():
            yield from ((f"[{index}]", item) for index, item in enumerate(value))
        case Send():
            yield ".arg", value.arg
        case BaseModel():
            yield from ((f".{name}", getattr(value, name)) for name in type(value).model_fields)
        case _ if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            yield from ((f".{field.name}", getattr(value, field.name)) for field in fields)
        case _:
            return


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"
