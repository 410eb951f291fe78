"""One typed tree of all settings, composed of each package's own model, and how it is loaded.

Order, the later wins: defaults, `redrive.toml`, environment, flags. Reading each of them is done
in `redrive.settings_sources`; docs/settings.md lists every key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from redrive.consumer.options import WorkerSettings
from redrive.errors import SettingsError
from redrive.graphs.options import CheckpointSettings, GraphSettings, TimeoutSettings
from redrive.kafka.options import KafkaSettings
from redrive.retry.config import RetryConfig
from redrive.settings_sources import (
    CONFIG_VARIABLE,
    Given,
    Problem,
    from_environment,
    from_file,
    from_overrides,
)
from redrive.units import Duration

__all__ = ["DEFAULT_FILE", "RetrySettings", "Settings", "load_settings"]

DEFAULT_FILE = Path("redrive.toml")
# What pydantic says of a default that is made from another value, when that one is refused.
_FOLLOWS_ANOTHER = "default_factory_not_called"


class RetrySettings(BaseModel):
    """How a transient failure is tried again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_retries: int = Field(3, ge=0, le=1000, description="Attempts after the first one.")
    initial_delay: Duration = Field(
        timedelta(seconds=1), description="The delay before the first retry."
    )
    max_delay: Duration = Field(timedelta(seconds=60), description="No delay is longer than this.")
    exponential_base: float = Field(2.0, ge=1, description="Each delay is this times the last one.")
    jitter: bool = Field(default=True, description="Spread the delays, so that no storm forms.")

    @model_validator(mode="after")
    def _can_work(self) -> RetrySettings:
        self.config()
        return self

    def config(self) -> RetryConfig:
        """Return the policy as `redrive.retry` takes it."""
        return RetryConfig(
            max_retries=self.max_retries,
            initial_delay=self.initial_delay.total_seconds(),
            max_delay=self.max_delay.total_seconds(),
            exponential_base=self.exponential_base,
            jitter=self.jitter,
        )


class Settings(BaseSettings):
    """All settings. Built by hand it takes what it is given; `load_settings` reads the sources."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    graphs: dict[str, GraphSettings] = Field(default_factory=dict)
    timeouts: TimeoutSettings = Field(default_factory=TimeoutSettings)
    checkpoints: CheckpointSettings = Field(default_factory=CheckpointSettings)
    retry: RetrySettings = Field(default_factory=RetrySettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)

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


def load_settings(
    config_file: Path | str | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Load the settings from every source.

    Args:
        config_file: A TOML file; else the one that REDRIVE_CONFIG names, else redrive.toml if the
            working directory has one.
        overrides: Values by dotted key (`kafka.group_id`), above all other sources.
        environ: The environment variables.

    Raises:
        SettingsError: One line per problem: the key, where it was given, what to do.
    """
    found: list[Given | Problem] = []
    file = _file(config_file, environ)
    if file is not None:
        found += from_file(file, Settings)
    found += from_environment(environ, Settings)
    found += from_overrides(overrides or {}, Settings)
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
    return settings


def _file(named: Path | str | None, environ: Mapping[str, str]) -> Path | None:
    if named is not None:
        return Path(named)
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


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


def _line(error: ErrorDetails, given: Mapping[tuple[str, ...], Given]) -> str:
    # Never the value, which may be a secret. [P15]
    path = tuple(str(part) for part in error["loc"])
    key = ".".join(path)
    origins = [item.origin for where, item in given.items() if where[: len(path)] == path]
    if error["type"] == "missing":
        origins = [i.origin for where, i in given.items() if where[: len(path) - 1] == path[:-1]]
        return f"{key} is missing: {'.'.join(path[:-1])} is set in {origins[0]} without it"
    place = f" in {' and '.join(dict.fromkeys(origins))}" if origins else ""
    message = error["msg"].removeprefix("Value error, ")
    if message.startswith("Input should"):
        return f"{key}{place} {message.removeprefix('Input ')}"
    return f"{key}{place}: {message}"
