"""A graph's last state as JSON: what is turned into what, and what is refused.

| value | becomes |
|---|---|
| LangChain message, pydantic model | its `model_dump(mode="json")`, by its own rules (NaN: null) |
| dataclass | an object of its fields |
| Enum | its value |
| datetime, date, time | ISO 8601 |
| UUID, Decimal, Path, URL, timedelta and their like | text, as pydantic writes them |
| bytes | base64 |
| set | a list, in an order of its own that never changes |

A message therefore looks as it does in LangGraph's own API (`{"type": "ai", "content": …}`), and
`langchain_core.messages.convert_to_messages` reads it back.

Anything else, NaN and Infinity too, is a `ResultError` that names the place in the state.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from enum import Enum
from pathlib import PurePath

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from redrive.errors import ResultError
from redrive.retry.kinds import Reason

__all__ = ["GraphFailed", "to_json"]

_MAX_DEPTH = 200


@dataclasses.dataclass(frozen=True, slots=True)
class GraphFailed:
    """What an `output` function returns when the graph ended but its task failed.

    The run is answered with `failure`, `error` and `result`; it is not tried again.
    """

    error: str
    result: object = None


def to_json(value: object, *, name: str = "result") -> object:
    """Return `value` as dicts, lists, text, numbers, booleans and None.

    Raises:
        ResultError: Something in it is not JSON; the message names the place, as
            `result.items[3].lock`.
    """
    try:
        return _convert(value, 0)
    except _NotJsonError as error:
        raise ResultError(
            f"{name}{error.path} is not JSON: {error.why}; leave it out of the graph's output "
            "schema, or give the graph an `output` function that does",
            reason=Reason.RESULT_NOT_JSON,
        ) from error.__cause__


class _NotJsonError(Exception):
    """Collects the path on its way up, so that a good value costs nothing."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path = ""


def _convert(value: object, depth: int) -> object:
    match value:
        case None | bool():
            return value
        case Enum():
            return _convert(value.value, depth)
        case str() | int() | float():
            return _plain(value)
        case _ if depth >= _MAX_DEPTH:
            raise _NotJsonError(f"nested more than {_MAX_DEPTH} deep, or it contains itself")
        case _:
            return _container(value, depth)


def _plain(value: str | float) -> str | float:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value)
    if not math.isfinite(value):
        raise _NotJsonError(f"the number is {value}")
    return float(value)


def _container(value: object, depth: int) -> object:
    match value:
        case Mapping():
            return _object(value, depth)
        case list() | tuple():
            return [_at(item, f"[{index}]", depth) for index, item in enumerate(value)]
        case set() | frozenset():
            return sorted((_at(item, "{}", depth) for item in value), key=_order)
        case _:
            return _other(value, depth)


def _other(value: object, depth: int) -> object:
    match value:
        case BaseModel():
            return _convert(_model(value), depth + 1)
        case datetime() | date() | time():
            return value.isoformat()
        case PurePath():
            return _text(str(value))
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            return {f.name: _at(getattr(value, f.name), f".{f.name}", depth) for f in fields}
        case _:
            return _convert(_known_to_pydantic(value), depth + 1)


def _object(value: Mapping[object, object], depth: int) -> dict[str, object]:
    found = {}
    for key, item in value.items():
        name = key if type(key) is str else _key(key)
        found[_text(name)] = _at(item, f".{name}", depth)
    return found


def _at(value: object, place: str, depth: int) -> object:
    try:
        return _convert(value, depth + 1)
    except _NotJsonError as error:
        error.path = place + error.path
        raise


def _text(value: str) -> str:
    text = str(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _NotJsonError("the text holds half a character (a lone surrogate)") from error
    return text


def _key(key: object) -> str:
    plain = _convert(key, _MAX_DEPTH - 1)
    if isinstance(plain, str):
        return plain
    if plain is None or isinstance(plain, bool | int | float):
        return json.dumps(plain)
    raise _NotJsonError(f"a key is of type {_type(key)}")


def _model(value: BaseModel) -> object:
    try:
        return value.model_dump(mode="json", warnings=False)
    except PydanticSerializationError:
        # It does not say where: as Python values, the walk finds the place.
        return value.model_dump(warnings=False)


def _known_to_pydantic(value: object) -> object:
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise _NotJsonError(f"it is of type {_type(value)}") from error


def _order(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
