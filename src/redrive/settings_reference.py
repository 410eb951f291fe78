"""The table of all settings for docs/settings.md: `python -m redrive.settings_reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from typing import get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from redrive.settings import Settings
from redrive.settings_sources import KNOWN_NAMES, variable
from redrive.units import format_duration, parse_size

__all__ = ["settings_reference"]

_HEAD = """\
# Settings

<!-- Made by `python -m redrive.settings_reference`; do not edit. -->

Order, the later wins: defaults, the file, the environment, flags.

* The file is `redrive.toml` in the working directory, or the one that `--config` or
  `REDRIVE_CONFIG` names. `kafka.group_id` is `group_id` in the table `[kafka]`; a graph is a table
  `[graphs.ID]`.
* In the environment, `kafka.group_id` is `REDRIVE_KAFKA__GROUP_ID`; an empty variable counts as
  unset. A table may be given whole, as JSON:
  `REDRIVE_GRAPHS='{"report": {"target": "reports:graph"}}'`. Names in variables are read in lower
  case; a graph id with capitals goes into the file, into JSON, or into `--graph`.
* Options of librdkafka: `"sasl.username" = "me"` in `[kafka.config]`, or
  `REDRIVE_KAFKA__CONFIG__SASL_USERNAME`.
* Durations are written as `250ms`, `30s`, `5m`, `2h`, `7d`; sizes as `512B`, `900kB`, `64MiB`.
* A key that is not in this table is refused, in the file as in the environment.
* `REDRIVE_DEBUG=1` shows a traceback with an error; it is no setting.
"""

_KNOWN_HEAD = """
## Names that are known already

These variables work as well; the `REDRIVE_` name wins when both are set.

| variable | key |
|---|---|
"""


def settings_reference() -> str:
    """Return the page docs/settings.md, made from the models."""
    parts = [_HEAD]
    for name, field in Settings.model_fields.items():
        named = get_origin(field.annotation) is dict
        model = get_args(field.annotation)[1] if named else field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{name} is not a table of settings")
        path = (name, "ID") if named else (name,)
        parts.append(f"\n## `{'.'.join(path)}`\n\n{model.__doc__}\n\n")
        parts.append("| key | environment | default | what it is |\n|---|---|---|---|\n")
        parts += _rows(model, path)
    parts.append(_KNOWN_HEAD)
    parts += [f"| `{name}` | `{key}` |\n" for name, key in KNOWN_NAMES.items()]
    return "".join(parts)


def _rows(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    defaults: dict[str, object] = {}
    for name, field in model.model_fields.items():
        where = (*path, name)
        written = "required"
        if not field.is_required():
            value = field.get_default(call_default_factory=True, validated_data=defaults)
            defaults[name] = value
            written = _written(field, value)
        yield f"| `{'.'.join(where)}` | `{variable(where)}` | {written} | {field.description} |\n"


def _written(field: FieldInfo, value: object) -> str:
    if isinstance(value, timedelta):
        text = format_duration(value)
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, Enum):
        text = str(value.value)
    elif value is None or value == {}:
        return "none"
    elif isinstance(value, int) and BeforeValidator(parse_size) in field.metadata:
        text = _size(value)
    else:
        text = str(value)
    return f"`{text}`"


def _size(value: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}B"


if __name__ == "__main__":
    sys.stdout.write(settings_reference())
