"""The table of all settings for docs/settings.md: `python -m redrive.settings_reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TypeGuard, get_origin

from pydantic import BaseModel

from redrive.retry_settings import GraphRetrySettings
from redrive.settings import Settings
from redrive.settings_report import written_as
from redrive.settings_sources import KNOWN_NAMES, inner_type, variable

__all__ = ["settings_reference"]

_HEAD = """\
# Settings

<!-- Made by `python -m redrive.settings_reference`; do not edit. -->

Order, the later wins: defaults, the file, the environment, flags.

* The file is the one that `--config` or `REDRIVE_CONFIG` names, otherwise `redrive.toml` in the
  working directory, if it belongs to you or to root and nobody else can write to it; stderr shows
  when it is used. `kafka.group_id` is `group_id` in the table `[kafka]`; a graph is a table
  `[graphs.ID]`.
* In the environment, `kafka.group_id` is `REDRIVE_KAFKA__GROUP_ID`; an empty variable counts as
  unset. A whole table may be set as JSON:
  `REDRIVE_GRAPHS='{"report": {"target": "reports:graph"}}'`. Names in variables are read as
  lower case; a graph id with capitals goes into the file, into JSON, or into `--graph`.
* A table with double brackets may occur more than once. A later source replaces all of them. Errors
  count them from 1: `retry.rules.2` is the second.
* A default that is the name of a key means the value of that key.
* Options of librdkafka: `"sasl.username" = "me"` in `[kafka.config]`, or
  `REDRIVE_KAFKA__CONFIG__SASL_USERNAME`.
* Durations are written as `250ms`, `30s`, `5m`, `2h`, `7d`; sizes as `512B`, `900kB`, `64MiB`.
* The value of a secret (a password, a token, a key, a channel's URL) may be the place where it is
  stored: `file:/run/secrets/kafka` or `env:NAME`, read when it is needed. See
  [Security](security.md#secrets).
* An unknown key is refused, in the file as well as in the environment.
* `redrive config show` shows the value of each setting and where it was set; `--given` leaves out
  the defaults.
* `REDRIVE_DEBUG=1` shows a traceback with each error; it is not a setting.
"""

_KNOWN_HEAD = """
## Other variables

These variables work as well. If both are set, the `REDRIVE_` name wins.

| variable | key |
|---|---|
"""


def settings_reference() -> str:
    """Return the page docs/settings.md, made from the models."""
    parts = [_HEAD]
    for name, field in Settings.model_fields.items():
        named = get_origin(field.annotation) is dict
        model = inner_type(field.annotation)
        if not _is_table(model):
            raise TypeError(f"{name} is not a table of settings")
        parts += _section(model, (name, "ID") if named else (name,))
    parts.append(_KNOWN_HEAD)
    parts += [f"| `{name}` | `{key}` |\n" for name, key in KNOWN_NAMES.items()]
    return "".join(parts)


def _is_table(model: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _section(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the table of one model, then those of the tables in it."""
    yield f"\n## `{'.'.join(path)}`\n\n{model.__doc__}\n\n"
    yield "| key | environment | default | meaning |\n|---|---|---|---|\n"
    yield from _rows(model, path)
    for name, field in model.model_fields.items():
        inner = inner_type(field.annotation)
        if get_origin(field.annotation) is dict and _is_table(inner):
            yield from _section(inner, (*path, name, "NAME"))
        elif inner is not field.annotation and _is_table(inner):
            yield from _listed(inner, (*path, name))
        elif _is_table(inner):
            yield from _section(inner, (*path, name))


def _listed(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the table of what stands in a list: its keys have no variables of their own."""
    key = ".".join(path)
    yield f"\n## `[[{key}]]`\n\n{model.__doc__} As JSON in `{variable(path)}`.\n\n"
    yield "| key | default | meaning |\n|---|---|---|\n"
    for name, default, description in _cells(model, path):
        yield f"| `{name}` | {default} | {description} |\n"


def _rows(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    for name, default, description in _cells(model, path):
        where = (*path, name)
        yield f"| `{'.'.join(where)}` | `{variable(where)}` | {default} | {description} |\n"


def _cells(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, str, str | None]]:
    """Yield name, default and description of each key that holds a value."""
    defaults: dict[str, object] = {}
    for name, field in model.model_fields.items():
        if _is_table(field.annotation):
            continue
        written = "required"
        if not field.is_required():
            value = field.get_default(call_default_factory=True, validated_data=defaults)
            defaults[name] = value
            written = "none" if (text := written_as(field, value)) is None else f"`{text}`"
        if model is GraphRetrySettings:
            written = f"`{path[-1]}.{name}`"
        yield name, written, field.description


if __name__ == "__main__":
    sys.stdout.write(settings_reference())
