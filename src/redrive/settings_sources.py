"""Where settings come from: a TOML file, the environment, overrides. Each value keeps its origin.

Knows keys and names, not what values mean: `redrive.settings` validates them.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel, SecretStr

from redrive.errors import SettingsError
from redrive.json_texts import parsed_json

__all__ = [
    "CONFIG_VARIABLE",
    "KNOWN_NAMES",
    "PREFIX",
    "Given",
    "Key",
    "Problem",
    "from_environment",
    "from_file",
    "from_overrides",
    "inner_type",
    "known_keys",
    "variable",
]

Key = tuple[str, ...]

PREFIX = "REDRIVE_"
CONFIG_VARIABLE = "REDRIVE_CONFIG"
# The names that users of this integration already have in their deployments.
KNOWN_NAMES = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka.bootstrap_servers",
    "KAFKA_WORKFLOW_EVENTS_TOPIC": "kafka.events_topic",
    "KAFKA_WORKFLOW_RESULTS_TOPIC": "kafka.results_topic",
    "KAFKA_DLQ_TOPIC": "kafka.dlq_topic",
    "KAFKA_CONSUMER_GROUP_ID": "kafka.group_id",
    "WORKFLOW_EXECUTION_TIMEOUT": "timeouts.run",
}
# Besides: where `redrive.testing` keeps its Kafka, and what a parent process tells its worker.
_NOT_SETTINGS = frozenset(
    {
        CONFIG_VARIABLE,
        "REDRIVE_DEBUG",
        "REDRIVE_CACHE",
        "REDRIVE_LAST_EXIT",
        "REDRIVE_PARENT_CHILD",
        "REDRIVE_PARENT_PIPE",
        "REDRIVE_PARENT_REPORTS",
    }
)
# Kubernetes gives every pod these for a Service called `redrive` or `redrive-…`.
_SERVICE_LINK = re.compile(
    r"REDRIVE(_[A-Z0-9]+)*?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"
    r"|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


@dataclass(frozen=True, slots=True)
class Given:
    """One value, and where it was given."""

    path: Key
    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One line about something that was given and cannot be used."""

    text: str


def variable(path: Key) -> str:
    """Return the environment variable that sets the key at `path`."""
    if path[:2] == ("kafka", "config"):
        path = (*path[:2], *(name.replace(".", "_") for name in path[2:]))
    return PREFIX + "__".join(path).upper()


def from_file(file: Path, schema: type[BaseModel]) -> Iterator[Given | Problem]:
    """Read a TOML file.

    Raises:
        SettingsError: It is not there, cannot be read, or is not TOML.
    """
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"settings file {file} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {file} cannot be read: {error}") from error
    except ValueError as error:  # also of a number of thousands of digits
        raise SettingsError(f"settings file {file} is not TOML: {error}") from error
    yield from _Reader(schema, str(file)).walk(schema, tree, ())


def from_environment(
    environ: Mapping[str, str], schema: type[BaseModel]
) -> Iterator[Given | Problem]:
    """Read the known names first, then `REDRIVE_…` over them; an empty variable counts as unset."""
    for name, key in KNOWN_NAMES.items():
        if environ.get(name):
            yield Given(tuple(key.split(".")), environ[name], f"the environment variable {name}")
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in _NOT_SETTINGS or not environ[name]:
            continue
        if "__" not in name and _SERVICE_LINK.fullmatch(name):
            continue
        reader = _Reader(schema, f"the environment variable {name}", in_environment=True)
        path = name.removeprefix(PREFIX).lower().split("__")
        yield from reader.walk(schema, _nested(path, environ[name]), ())


def from_overrides(
    overrides: Mapping[str, object], schema: type[BaseModel]
) -> Iterator[Given | Problem]:
    """Read values by dotted key; a value may be a mapping (`{"graphs": {"my.id": {…}}}`)."""
    for key, value in overrides.items():
        reader = _Reader(schema, "the flags or overrides")
        yield from reader.walk(schema, _nested(key.split("."), value), ())


def known_keys(schema: type[BaseModel], path: Key = ()) -> Iterator[Key]:
    """Yield the path of every key, tables included.

    `*` stands for a name of the user's choice, or for the number of a table in a list.
    """
    for name, field in schema.model_fields.items():
        yield (*path, name)
        inner = inner_type(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            middle = () if inner is field.annotation else ("*",)
            yield from known_keys(inner, (*path, name, *middle))


def inner_type(annotation: object) -> object:
    """Return what a field holds; for a dict or a list, what its values hold."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return arguments[1]
    return arguments[0] if origin is tuple else annotation


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes a tree of given values apart, along the schema."""

    schema: type[BaseModel]
    origin: str
    in_environment: bool = False

    def walk(self, model: type[BaseModel], tree: object, path: Key) -> Iterator[Given | Problem]:
        table = self._table(tree, path)
        if isinstance(table, Problem):
            yield table
            return
        if not table:
            yield Given(path, {}, self.origin)
        for name, value in table.items():
            field = model.model_fields.get(name)
            here = (*path, name)
            if field is None:
                yield self._unknown(here, model)
                continue
            inner, form = inner_type(field.annotation), get_origin(field.annotation)
            if form is dict:
                yield from self._entries(field.annotation, value, here)
            elif isinstance(inner, type) and issubclass(inner, BaseModel):
                walk = self._items if form is tuple else self.walk
                yield from walk(inner, value, here)
            else:
                yield Given(here, value, self.origin)

    def _entries(self, annotation: object, tree: object, path: Key) -> Iterator[Given | Problem]:
        """Take a table apart whose names are no fields: graphs by id, kinds, librdkafka's options.

        Where the names are an enum's, others are refused.
        """
        names, inner = get_args(annotation)
        table = self._table(self._named(tree) if inner is SecretStr else tree, path)
        if isinstance(table, Problem):
            yield table
            return
        for name, value in table.items():
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from self.walk(inner, value, (*path, name))
            elif inner is SecretStr:
                yield Given((*path, name), value, self.origin)
            elif not (isinstance(names, type) and issubclass(names, Enum)):
                yield from self._options(name, value, path)
            elif name in _values(names):
                yield Given((*path, name), value, self.origin)
            else:
                yield self._no_member(name, names, path)

    def _named(self, tree: object) -> object:
        """Name the URLs of a list by their schemes: `slack`, `json`, `json-2`."""
        in_text = self.in_environment and isinstance(tree, str) and not tree.startswith(("{", "["))
        urls = str(tree).split() if in_text else self._parsed(tree)
        if not isinstance(urls, list):
            return tree
        named: dict[str, object] = {}
        for url in urls:
            scheme, colon, _ = str(url).partition(":")
            if not colon:
                # No URL, so a secret itself may be: it must not become a name.
                return tree
            taken = sum(name.rpartition("-")[0] == scheme or name == scheme for name in named)
            named[f"{scheme}-{taken + 1}" if taken else scheme] = url
        return named

    def _items(self, model: type[BaseModel], given: object, path: Key) -> Iterator[Given | Problem]:
        """Look through a list of tables. It stays one value: it replaces an earlier source's."""
        tables = self._parsed(given)
        if not isinstance(tables, list):
            form = "a JSON array" if self.in_environment else f"tables: [[{'.'.join(path)}]]"
            yield Problem(f"{'.'.join(path)} in {self.origin} must be {form}")
            return
        kept: list[dict[str, object]] = []
        for number, table in enumerate(tables, 1):
            here = (*path, str(number))
            found = list(self.walk(model, table, here))
            yield from (item for item in found if isinstance(item, Problem))
            values = (item for item in found if isinstance(item, Given) and item.path != here)
            kept.append({item.path[-1]: item.value for item in values})
        if all(isinstance(table, Mapping) for table in tables):
            yield Given(path, kept, self.origin)

    def _options(self, name: str, value: object, path: Key) -> Iterator[Given]:
        """Write one option as librdkafka spells it: dotted names, everything as text."""
        if isinstance(value, Mapping):  # TOML reads `sasl.username = …` as a table in a table
            for rest, inner in value.items():
                yield from self._options(f"{name}.{rest}", inner, path)
            return
        if self.in_environment:
            name = name.replace("_", ".")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield Given((*path, name), text, self.origin)

    def _table(self, tree: object, path: Key) -> Mapping[str, object] | Problem:
        table = self._parsed(tree)
        if isinstance(table, Mapping):
            return table
        form = "a JSON object" if self.in_environment else "a table"
        return Problem(f"{'.'.join(path)} in {self.origin} must be {form}")

    def _parsed(self, value: object) -> object:
        if not (isinstance(value, str) and self.in_environment):
            return value
        try:
            return parsed_json(value)
        except ValueError:
            return None

    def _unknown(self, path: Key, model: type[BaseModel]) -> Problem:
        nearest = _nearest(path, self.schema)
        if nearest is None:
            siblings = ", ".join(model.model_fields)
            table = ".".join(path[:-1])
            hint = f"known in {table}: {siblings}" if table else f"known: {siblings}"
        else:
            known = ".".join(nearest)
            # A key of a table in a list has no variable of its own.
            own = self.in_environment and not any(part.isdecimal() for part in nearest)
            name = f" ({variable(nearest)})" if own else ""
            hint = f"did you mean {known}{name}?"
        return Problem(f"unknown key {'.'.join(path)} in {self.origin}: {hint}")

    def _no_member(self, name: str, names: type[Enum], path: Key) -> Problem:
        table, known = ".".join(path), _values(names)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {table}.{close[0]}?" if close else f"known: {', '.join(known)}"
        return Problem(f"unknown key {table}.{name} in {self.origin}: {hint}")


def _nearest(path: Key, schema: type[BaseModel]) -> Key | None:
    """Find the known key that was most likely meant: same last name first, then by spelling."""
    known: dict[str, Key] = {}
    for pattern in known_keys(schema):
        if "*" in pattern and pattern[:1] != path[:1]:
            continue
        filled = tuple(
            path[i] if part == "*" and i < len(path) else part for i, part in enumerate(pattern)
        )
        known[".".join(filled)] = filled
    for candidate in known.values():
        if candidate[-1] == path[-1] and candidate != path:
            return candidate
    close = difflib.get_close_matches(".".join(path), known, n=1, cutoff=0.75)
    if close:
        return known[close[0]]
    by_name = {candidate[-1]: candidate for candidate in known.values()}
    close = difflib.get_close_matches(path[-1], by_name, n=1, cutoff=0.75)
    return by_name[close[0]] if close else None


def _nested(path: list[str], value: object) -> dict[str, object]:
    tree = value
    for name in reversed(path):
        tree = {name: tree}
    return tree if isinstance(tree, dict) else {}


def _values(names: type[Enum]) -> list[str]:
    return [str(member.value) for member in names]
