"""Whether what a node writes comes back from its checkpoint as it was.

LangGraph's serialiser stores much as something else: a Counter as a dict, a tuple as a list, an
exception as its text. A run that is never resumed does not notice; a retried one goes on with other
values than the first attempt had. So each new shape of a value is read back as it is stored.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import Enum
from typing import Any, Literal

import structlog
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.types import Send
from pydantic import BaseModel

from redrive.errors import StateChangedError

__all__ = ["Difference", "StateVerifier", "difference"]

Verify = Literal["off", "warn", "refuse"]

log = structlog.get_logger("redrive.checkpoints")

_MOST_VALUES = 20_000
_MOST_SHAPES = 10_000
_SHAPE_ITEMS = 32
_LONGEST = 60
_BRANCH, _SENDS = "branch:to:", "__pregel_tasks"


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A value that comes back as something else.

    Args:
        place: Where in the state it lies, as `state['counts']`.
        was: What was written: its type, and where that is the same its value.
        becomes: What is read.
    """

    place: str
    was: str
    becomes: str


class StateVerifier:
    """Reads back what nodes write, as `checkpoints.verify` says. Safe from any thread.

    With `warn` each shape of a value (its type, and those of its first items) is looked at once for
    each node and key; with `refuse` every value is, since one that is refused is not stored.
    """

    def __init__(self, verify: Verify = "warn") -> None:
        self._verify = verify
        self._seen: set[object] = set()
        self._told: set[tuple[str, str | None, str]] = set()

    def check(
        self,
        writes: Sequence[tuple[str, Any]],
        serde: SerializerProtocol,
        *,
        workflow: str,
        node: str | None,
    ) -> None:
        """Look at what a task is about to store.

        Raises:
            StateChangedError: Something comes back otherwise, and the setting is `refuse`.
        """
        if self._verify == "off":
            return
        for channel, value in writes:
            if channel.startswith(_BRANCH) or (channel.startswith("__") and channel != _SENDS):
                continue
            if self._verify == "warn" and not self._is_new(workflow, node, channel, value):
                continue
            found = _read_back(value, serde, place=_place(channel))
            if found is not None:
                self._tell(found, workflow, node)

    def _is_new(self, workflow: str, node: str | None, channel: str, value: object) -> bool:
        shape = (workflow, node, channel, _shape(value))
        if shape in self._seen:
            return False
        if len(self._seen) < _MOST_SHAPES:
            self._seen.add(shape)
        return True

    def _tell(self, found: Difference, workflow: str, node: str | None) -> None:
        if self._verify == "refuse":
            raise StateChangedError(
                node=node, place=found.place, was=found.was, becomes=found.becomes
            )
        known = (workflow, node, found.place)
        if known in self._told or len(self._told) >= _MOST_SHAPES:
            return
        self._told.add(known)
        log.warning(
            "checkpoints.state_changes",
            workflow_id=workflow,
            node=node,
            place=found.place,
            was=found.was,
            becomes=found.becomes,
        )


def _read_back(value: object, serde: SerializerProtocol, *, place: str) -> Difference | None:
    try:
        # As it lies in a checkpoint: among the other keys, where a serialiser keeps less.
        stored = serde.dumps_typed({place: value})
    except Exception:  # noqa: BLE001 - storing it fails as well, and names the place
        return None
    try:
        read = serde.loads_typed(stored)[place]
    except Exception as error:  # noqa: BLE001 - data: it cannot be read
        return Difference(place, _type(value), f"what cannot be read ({_short(error)})")
    return difference(value, read, place=place)


def difference(written: object, read: object, *, place: str = "state") -> Difference | None:
    """Return the first place where the two differ, in type or value; None if there is none.

    It looks at 20,000 values at most. What it does not know it compares by `==`; where that is not
    defined, equal types are taken for equal values.
    """
    left: list[tuple[str, object, object]] = [(place, written, read)]
    for _ in range(_MOST_VALUES):
        if not left:
            return None
        where, was, becomes = left.pop()
        if type(was) is not type(becomes) and not _is_same_text(was, becomes):
            return Difference(where, _type(was), _type(becomes))
        parts = _parts(was, becomes)
        if parts is None:
            if not _equal(was, becomes):
                return Difference(where, _short(was), _short(becomes))
            continue
        for name, one, other in parts:
            left.append((where + name, one, other))
    return None


_MISSING = object()


def _is_same_text(was: object, becomes: object) -> bool:
    """Take text of a class of its own for the text that it is, as its users do."""
    is_text = isinstance(was, str) and not isinstance(was, Enum)
    return is_text and type(becomes) is str and was == becomes


def _parts(was: Any, becomes: Any) -> list[tuple[str, object, object]] | None:  # noqa: ANN401 - any
    """Return what both are made of, side by side; None for what is compared as a whole."""
    match was:
        case Mapping():
            factory = [(".default_factory", *_both(was, becomes, "default_factory"))]
            keys = [*was, *(key for key in becomes if key not in was)]
            return factory + [
                (f"[{_short(key)}]", was.get(key, _MISSING), becomes.get(key, _MISSING))
                for key in keys
            ]
        case list() | tuple() if len(was) == len(becomes):
            return [(f"[{i}]", *pair) for i, pair in enumerate(zip(was, becomes, strict=True))]
        case deque():
            return [(".maxlen", was.maxlen, becomes.maxlen), ("", list(was), list(becomes))]
        case _:
            names = _fields(was, becomes)
            return None if names is None else [(f".{n}", *_both(was, becomes, n)) for n in names]


def _fields(was: object, becomes: object) -> list[str] | None:
    match was:
        case Send():
            return ["node", "arg"]
        case BaseModel():
            private = was.__pydantic_private__ or {}
            return list({**was.__dict__, **becomes.__dict__, **(was.model_extra or {}), **private})
        case datetime():
            zones = (was.tzinfo, getattr(becomes, "tzinfo", None))
            return ["tzinfo"] if was == becomes and zones[0] != zones[1] else None
        case _ if dataclasses.is_dataclass(was) and not isinstance(was, type):
            return [field.name for field in dataclasses.fields(was)]
        case _:
            return None


def _both(was: object, becomes: object, name: str) -> tuple[object, object]:
    return getattr(was, name, _MISSING), getattr(becomes, name, _MISSING)


def _equal(was: Any, becomes: Any) -> bool:  # noqa: ANN401 - any
    try:
        equal = was == becomes
        if isinstance(equal, bool):
            return equal or (was != was and becomes != becomes)  # noqa: PLR0124 - so NaN is told
        if hasattr(equal, "all"):  # an array
            same_kind = getattr(was, "dtype", None) == getattr(becomes, "dtype", None)
            return same_kind and was.shape == becomes.shape and bool(equal.all())
    except Exception:  # noqa: BLE001 - it cannot be compared: someone else's `==`
        return True
    # Objects without an `==` of their own differ from every copy.
    return True


def _shape(value: object) -> object:
    return type(value), frozenset(type(item) for item in _first_items(value))


def _first_items(value: object) -> Iterator[object]:
    match value:
        case str() | bytes() | bytearray():
            return
        case Mapping():
            for _, (key, item) in zip(range(_SHAPE_ITEMS), value.items(), strict=False):
                yield key if not isinstance(key, str) else item
        case list() | tuple() | AbstractSet():
            for _, item in zip(range(_SHAPE_ITEMS), value, strict=False):
                yield item
        case _:
            return


def _place(channel: str) -> str:
    return "the argument of a Send" if channel == _SENDS else f"state[{channel!r}]"


def _type(value: object) -> str:
    if value is _MISSING:
        return "nothing"
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - someone else's `__repr__`
        return _type(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
