"""The settings `graphs.<id>.*`, `timeouts.*`, `checkpoints.*`: what runs, how long, kept where.

Nothing here loads a graph or opens a file.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from redrive.graphs.reserved_names import is_reserved
from redrive.retry_settings import GraphRetrySettings
from redrive.units import Duration, Listed

__all__ = ["CheckpointSettings", "GraphSettings", "ThreadSettings", "TimeoutSettings"]


def _some_time(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("no time at all: leave it out where there is to be no limit")
    return value


def _free_name(value: str) -> str:
    if not value:
        raise ValueError("an empty name: name a key of payload.config")
    if is_reserved(value):
        raise ValueError(f"{value!r} is LangGraph's or redrive's: no event may set it")
    return value


def _field_path(value: str) -> str:
    if not _FIELD_PATH.fullmatch(value):
        raise ValueError(
            f"{value!r} names no field of an event: write names with dots between them, such as "
            "metadata.tenant or payload.data.tenant"
        )
    return value


def _an_hour_or_more(value: timedelta) -> timedelta:
    if value < _LEAST_NAMED_TTL:
        raise ValueError("less than an hour: workers look every hour, and runs take their time")
    return value


_LEAST_NAMED_TTL = timedelta(hours=1)
NamedTtl = Annotated[Duration, AfterValidator(_an_hour_or_more)]
_FIELD_PATH = re.compile(r"[\w-]+(\.[\w-]+)*")
FieldPath = Annotated[str, AfterValidator(_field_path)]
ConfigurableName = Annotated[str, AfterValidator(_free_name)]
TimeLimit = Annotated[Duration, AfterValidator(_some_time)]


class GraphSettings(BaseModel):
    """One graph: where it is, and how an event becomes its input and its state a result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str | None = Field(
        None,
        description="The graph's import path, as package.module:attribute. Only a graph of the "
        "same id in a langgraph.json, or given in Python, needs none.",
    )
    lifespan: str | None = Field(
        None,
        description="Import path of an async context manager, opened once by each worker before "
        "it is ready, and closed when it has drained: pools, clients, sessions.",
    )
    input: str | None = Field(
        None, description="Import path of event -> graph input; default: payload.data goes in."
    )
    output: str | None = Field(
        None, description="Import path of last state -> result; default: the state comes out."
    )
    context: str | None = Field(
        None,
        description="Import path of event -> the run's context (`runtime.context`); default: "
        "`metadata.langgraph.context` of the event.",
    )
    configurable: Listed[ConfigurableName] = Field(
        (),
        description="Names that an event's `payload.config` may set in the run's "
        '`config["configurable"]`; nothing else of it passes.',
    )
    version: str | None = Field(
        None, description="The graph's version; default: a hash of its drawing."
    )
    on_failure: Literal["finish_siblings", "cancel"] = Field(
        "finish_siblings",
        description="Parallel nodes beside one that failed: they end first, within the attempt's "
        "limits, and are not run again; or they are cancelled, and run again.",
    )
    sibling_timeout: TimeLimit = Field(
        timedelta(minutes=10),
        description="How long `finish_siblings` waits for them, from the failure on; then those "
        "that still run are cancelled, and run again.",
    )
    recursion_limit: int | None = Field(
        None,
        ge=1,
        description="Supersteps a run may take, where the graph does not set a limit itself; "
        "default: 100.",
    )
    retry: GraphRetrySettings = Field(
        default_factory=GraphRetrySettings, description="Retries of this graph alone."
    )
    concurrency: int | None = Field(
        None,
        ge=1,
        description="Runs of it at the same time, at most; default: `worker.in_flight` without "
        "the slots that are kept for other graphs.",
    )
    timeout: TimeLimit | None = Field(
        None, description="How long its runs may take; default: `timeouts.run`."
    )
    attempt_timeout: TimeLimit | None = Field(
        None,
        description="How long one attempt of it may take; default: `timeouts.attempt`.",
    )
    idle_timeout: TimeLimit | None = Field(
        None,
        description="How long no node of it may make progress; default: `timeouts.idle`.",
    )


class TimeoutSettings(BaseModel):
    """How long things may take, for each graph that says nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: TimeLimit | None = Field(
        timedelta(days=2),
        description="A run, with all its attempts and the waits between them; an event's own "
        "deadline counts where it is earlier. One that hangs gives its slot back then. `36500d` is "
        "no limit.",
    )
    attempt: TimeLimit | None = Field(
        None, description="One attempt; another may follow, and resumes."
    )
    idle: TimeLimit | None = Field(
        None,
        description="An attempt in which no node begins or ends, calls a tool or a model, gets a "
        "token of it, or calls `runtime.heartbeat()`; another attempt may follow.",
    )

    def of(self, graph: GraphSettings | None) -> TimeoutSettings:
        """Return what holds for one graph: its own values, and these where it has none."""
        if graph is None:
            return self
        return TimeoutSettings(
            run=graph.timeout or self.run,
            attempt=graph.attempt_timeout or self.attempt,
            idle=graph.idle_timeout or self.idle,
        )


class ThreadSettings(BaseModel):
    """Threads that producers name (`redrive-thread`): whose they are, how long they are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: FieldPath | None = Field(
        None,
        description="A field of the event, such as `metadata.tenant`: equal names of two values of "
        "it are two threads, and an event that names a thread without it is refused. Default: "
        "names mean the same for all.",
    )
    ttl: NamedTtl | None = Field(
        None,
        description="How long a thread is kept after it was last used, also where it waits for an "
        "answer; at least an hour. While a run or a letter could need it, it stays. Default: "
        "until `redrive checkpoints delete`.",
    )
    shared: bool = Field(
        default=False,
        description="Whether events of every workflow may go on from a thread; by default it "
        "belongs to the workflow that first used it.",
    )


class CheckpointSettings(BaseModel):
    """Where checkpoints live, and how long those of finished runs are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "sqlite:///redrive-checkpoints.db",
        description="sqlite:///FILE for one host; none for graphs that need no resume.",
    )
    ttl: Duration = Field(
        timedelta(hours=24),
        description="How long the checkpoints of a finished run are kept. Those of a letter are "
        "kept until it cannot be driven again.",
    )
    verify: Literal["off", "warn", "refuse"] = Field(
        "warn",
        description="Whether what nodes write is read back: `warn` logs each new shape of a value "
        "that comes back as something else; with `refuse` its run fails before it is stored.",
    )
    serializer: str | None = Field(
        None,
        description="Import path of a serializer, or of what makes one; default: LangGraph's "
        "JsonPlusSerializer, which makes no type that is not allowed.",
    )
    allowed_types: Listed[str] = Field(
        (),
        description="Types that a state may hold beside those of the graphs' schemas and of the "
        "packages that the graphs are in: `module.Class`, or `package.*` for all models, "
        "dataclasses, enums and named tuples of one.",
    )
    encryption_key: SecretStr | None = Field(
        None,
        description="16, 24 or 32 bytes: checkpoints are encrypted with AES. Give it by its "
        "variable, not in a file. Needs `redrive[encryption]`.",
    )
    old_encryption_keys: Listed[SecretStr] = Field(
        (),
        description="Keys that are still read with, and not written with any more.",
    )
