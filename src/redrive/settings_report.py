"""What holds of the settings, and where each value came from; secrets are masked.

[P15]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from redrive.secret_values import is_reference
from redrive.settings import Loaded
from redrive.settings_sources import Key
from redrive.telemetry.redactor import BUILT_IN
from redrive.telemetry.secret_looks import mark
from redrive.telemetry.secret_names import is_secret_name
from redrive.units import format_duration, parse_size

__all__ = ["DEFAULT", "Holding", "holding", "written_as"]

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Holding:
    """One key: its value as it would be written, None where there is none, and where it was given.

    `default` is the origin of what nobody gave.
    """

    key: str
    value: str | None
    origin: str


def holding(loaded: Loaded) -> list[Holding]:
    """Return every key that holds a value, in the order of docs/settings.md."""
    return [
        Holding(".".join(path), value, _origin(path, loaded.origins))
        for path, value in _walk(loaded.settings, ())
    ]


def written_as(field: FieldInfo, value: object) -> str | None:
    """Return a value as it is written in the file or the environment, or None for nothing."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or value in ({}, (), ""):
        return None
    if isinstance(value, int) and BeforeValidator(parse_size) in field.metadata:
        return _size(value)
    return str(value)


def _walk(model: BaseModel, path: Key) -> Iterator[tuple[Key, str | None]]:
    for name, field in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, here)
        elif isinstance(value, Mapping) and value:
            yield from _entries(field, value, here)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            tables = [
                BUILT_IN.within(table.model_dump(mode="json", exclude_unset=True))
                for table in value
            ]
            yield here, json.dumps(tables, ensure_ascii=False)
        else:
            yield here, _masked(here, written_as(field, value), value)


def _entries(
    field: FieldInfo, table: Mapping[object, object], path: Key
) -> Iterator[tuple[Key, str | None]]:
    for name, value in table.items():
        here = (*path, str(name))
        if isinstance(value, BaseModel):
            yield from _walk(value, here)
        else:
            yield here, _masked(here, written_as(field, value), value)


def _masked(path: Key, written: str | None, value: object) -> str | None:
    """Mask what a value holds of secrets; the whole of it, where its name or its type says so."""
    if written is None:
        return None
    held = value.get_secret_value() if isinstance(value, SecretStr) else written
    if isinstance(value, SecretStr) or is_secret_name(path[-1]):
        # Where a secret lies is none.
        return held if is_reference(held) else mark("secret")
    return str(BUILT_IN.named(path[-1], written))


def _origin(path: Key, origins: Mapping[Key, str]) -> str:
    around = [where for where in origins if where and where == path[: len(where)]]
    return origins[max(around, key=len)] if around else DEFAULT


def _size(value: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}B"
