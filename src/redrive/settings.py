"""One typed tree of all settings, composed of each package's own model, and how it is loaded.

Order, the later wins: defaults, `redrive.toml`, environment, flags. Reading each of them is done
in `redrive.settings_sources`; docs/settings.md lists every key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from redrive.airflow_settings import AirflowSettings
from redrive.consumer.worker_settings import MetricsSettings, WorkerSettings
from redrive.dead_letter.letter_settings import LetterSettings
from redrive.errors import SettingsError
from redrive.graphs.graph_settings import (
    CheckpointSettings,
    GraphSettings,
    ThreadSettings,
    TimeoutSettings,
)
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.notify.notify_settings import NotifySettings
from redrive.private_files import distrust
from redrive.redriving.redrive_settings import RedriveSettings
from redrive.retry.retry_config import RetryConfig
from redrive.retry_settings import RetrySettings
from redrive.security_settings import SecuritySettings
from redrive.settings_sources import (
    CONFIG_VARIABLE,
    Given,
    Key,
    Problem,
    from_environment,
    from_file,
    from_overrides,
)

__all__ = [
    "DEFAULT_FILE",
    "Loaded",
    "RetrySettings",
    "Settings",
    "load_settings",
    "load_with_origins",
]

DEFAULT_FILE = Path("redrive.toml")
# What pydantic says of a default that is made from another value, when that one is refused.
_FOLLOWS_ANOTHER = "default_factory_not_called"


class Settings(BaseSettings):
    """All settings. Built by hand it takes what it is given; `load_settings` reads the sources."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    graphs: dict[str, GraphSettings] = Field(default_factory=dict)
    timeouts: TimeoutSettings = Field(default_factory=TimeoutSettings)
    checkpoints: CheckpointSettings = Field(default_factory=CheckpointSettings)
    threads: ThreadSettings = Field(default_factory=ThreadSettings)
    retry: RetrySettings = Field(default_factory=RetrySettings)
    letters: LetterSettings = Field(default_factory=LetterSettings)
    redrive: RedriveSettings = Field(default_factory=RedriveSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    security: SecuritySettings = Field(default_factory=SecuritySettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    airflow: AirflowSettings = Field(default_factory=AirflowSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the framework's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values only: `load_settings` knows where each came from, and can say so."""
        return (init_settings,)

    @model_validator(mode="after")
    def _policies_can_work(self) -> Settings:
        wrong: list[InitErrorDetails] = []
        for graph_id in self.graphs:
            try:
                self.policy(graph_id)
            except ValueError as error:
                problem = PydanticCustomError("policy", "{why}", {"why": str(error)})
                where = ("graphs", graph_id, "retry")
                wrong.append(InitErrorDetails(type=problem, loc=where, input=None))
        if wrong:
            raise ValidationError.from_exception_data("Settings", wrong, hide_input=True)
        return self

    def policy(self, graph_id: str | None = None) -> RetryConfig:
        """Return how failures of this graph are retried; of a graph without settings, of all."""
        graph = None if graph_id is None else self.graphs.get(graph_id)
        return (self.retry if graph is None else graph.retry.over(self.retry)).config()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each key that somebody gave was given."""

    settings: Settings
    origins: Mapping[Key, str]
    found_file: Path | None = None
    """The file that was read though nobody had named it: redrive.toml of the working directory."""


def load_settings(
    config_file: Path | str | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Load the settings from every source.

    Args:
        config_file: A TOML file; else the one that REDRIVE_CONFIG names, else redrive.toml if the
            working directory has one that belongs to this user, or to root, and that nobody else
            can write to.
        overrides: Values by dotted key (`kafka.group_id`), above all other sources.
        environ: The environment variables.

    Raises:
        SettingsError: One line per problem: the key, where it was given, what to do.
    """
    return load_with_origins(config_file, overrides, environ).settings


def load_with_origins(
    config_file: Path | str | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Load the settings, and say where each came from; else as `load_settings`."""
    found: list[Given | Problem] = []
    file = _file(config_file, environ)
    if file is not None:
        found += _all_of(from_file(file, Settings), f"settings file {file}")
    found += _all_of(from_environment(environ, Settings), "the environment")
    found += _all_of(from_overrides(overrides or {}, Settings), "the flags or overrides")
    problems = [item.text for item in found if isinstance(item, Problem)]
    given = {item.path: item for item in found if isinstance(item, Given)}
    try:
        settings = Settings.model_validate(_tree(given.values()))
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        problems += [_line(e, given) for e in errors if e["type"] != _FOLLOWS_ANOTHER]
        raise SettingsError("\n".join(problems)) from error
    if problems:
        raise SettingsError("\n".join(problems))
    was_named = config_file is not None or bool(environ.get(CONFIG_VARIABLE))
    origins = {path: item.origin for path, item in given.items()}
    return Loaded(settings, origins, None if was_named else file)


def _all_of(source: Iterable[Given | Problem], origin: str) -> list[Given | Problem]:
    try:
        return list(source)
    except RecursionError:
        raise SettingsError(f"{origin}: something is nested too deeply; no setting is") from None


def _file(named: Path | str | None, environ: Mapping[str, str]) -> Path | None:
    if named is not None:
        return Path(named)
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return DEFAULT_FILE if _is_ours(DEFAULT_FILE) else None


def _is_ours(file: Path) -> bool:
    """Say whether there is a file to be read; whoever can write it chooses what code is run.

    Raises:
        SettingsError: There is one, and it may be another's.
    """
    try:
        why = distrust(file) if file.is_file() else None
    except OSError as error:
        why = f"it cannot be checked: {error.strerror}"
    if why is not None:
        raise SettingsError(
            f"settings file ./{file} is ignored: {why}; if it is yours, fix its owner and mode "
            f"(chown, chmod go-w), or name it: --config {file}, or {CONFIG_VARIABLE}={file}"
        )
    return file.is_file()


def _tree(given: Iterable[Given]) -> dict[str, object]:
    root: dict[str, object] = {}
    for item in given:
        node = root
        for name in item.path[:-1]:
            inner = node.setdefault(name, {})
            assert isinstance(inner, dict)  # noqa: S101 - the schema says which keys are tables
            node = inner
        if item.path and (item.value != {} or item.path[-1] not in node):
            node[item.path[-1]] = item.value
    return root


def _line(error: ErrorDetails, given: Mapping[Key, Given]) -> str:
    # Never the value, which may be a secret. [P15]
    # Tables of a list are counted from 1, as people count.
    path = tuple(str(part + 1 if isinstance(part, int) else part) for part in error["loc"])
    key = ".".join(path)
    if error["type"] == "missing":
        origin = _origins(path[:-1], given)[0]
        return f"{key} is missing: {'.'.join(path[:-1])} is set in {origin} without it"
    origins = _origins(path, given)
    place = f" in {' and '.join(origins)}" if origins else ""
    message = error["msg"].removeprefix("Value error, ")
    if message.startswith("Input should"):
        return f"{key}{place} {message.removeprefix('Input ')}"
    return f"{key}{place}: {message}"


def _origins(path: Key, given: Mapping[Key, Given]) -> list[str]:
    """Return where a table's keys were given, or else the list that holds this one."""
    inside = [item.origin for where, item in given.items() if where[: len(path)] == path]
    around = [where for where in given if where == path[: len(where)]]
    nearest = [given[max(around, key=len)].origin] if around else []
    return list(dict.fromkeys(inside or nearest))
