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
        description="The graph's import path, as package.module:attribute. Not needed if a "
        "langgraph.json or Python code provides a graph with this id.",
    )
    lifespan: str | None = Field(
        None,
        description="Import path of an async context manager for pools, clients and sessions. "
        "Each worker opens it once before it is ready, and closes it after it has drained.",
    )
    input: str | None = Field(
        None,
        description="Import path of a function that turns the event into the graph's input. "
        "Default: payload.data is the input.",
    )
    output: str | None = Field(
        None,
        description="Import path of a function that turns the last state into the result. "
        "Default: the state is the result.",
    )
    context: str | None = Field(
        None,
        description="Import path of a function that turns the event into the run's context "
        "(`runtime.context`). Default: the event's `metadata.langgraph.context`.",
    )
    configurable: Listed[ConfigurableName] = Field(
        (),
        description="Names that an event's `payload.config` may set in the run's "
        '`config["configurable"]`. Everything else in it is ignored.',
    )
    version: str | None = Field(
        None, description="The graph's version. Default: a hash of its nodes and edges."
    )
    on_failure: Literal["finish_siblings", "cancel"] = Field(
        "finish_siblings",
        description="What happens to parallel nodes when one fails: with `finish_siblings` they "
        "end first, within the attempt's limits, and are not run again; with `cancel` "
        "they are cancelled, and run again.",
    )
    sibling_timeout: TimeLimit = Field(
        timedelta(minutes=10),
        description="How long `finish_siblings` waits after the failure. Nodes that are still "
        "running then are cancelled, and run again.",
    )
    recursion_limit: int | None = Field(
        None,
        ge=1,
        description="Most supersteps of a run, unless the graph sets its own limit. Default: 100.",
    )
    retry: GraphRetrySettings = Field(
        default_factory=GraphRetrySettings, description="Retries of this graph alone."
    )
    concurrency: int | None = Field(
        None,
        ge=1,
        description="Most runs of this graph at the same time. Default: `worker.in_flight` minus "
        "the slots that are kept for other graphs.",
    )
    timeout: TimeLimit | None = Field(
        None, description="How long a run of this graph may take. Default: `timeouts.run`."
    )
    attempt_timeout: TimeLimit | None = Field(
        None,
        description="How long one attempt of this graph may take. Default: `timeouts.attempt`.",
    )
    idle_timeout: TimeLimit | None = Field(
        None,
        description="How long an attempt may go without progress in any node. Default: "
        "`timeouts.idle`.",
    )


class TimeoutSettings(BaseModel):
    """Time limits for all graphs that do not set their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: TimeLimit | None = Field(
        timedelta(days=2),
        description="How long a run may take, with all its attempts and the waits between them. "
        "An event's own deadline applies if it is earlier. A run that hangs frees its slot at "
        "this limit. `36500d` means no limit.",
    )
    attempt: TimeLimit | None = Field(
        None, description="How long one attempt may take. Another may follow, and resumes."
    )
    idle: TimeLimit | None = Field(
        None,
        description="How long an attempt may go without progress: a node that starts or ends, a "
        "call of a tool or a model, a token from a model, a call of `runtime.heartbeat()`. "
        "Another attempt may follow.",
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
    """Threads that producers name (`redrive-thread`): who may use them, how long they are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: FieldPath | None = Field(
        None,
        description="A field of the event, such as `metadata.tenant`, that separates the names: "
        "the same name under two values means two threads, and an event that names a thread "
        "without the field is refused. Default: all events share the names.",
    )
    ttl: NamedTtl | None = Field(
        None,
        description="How long a thread is kept after its last use, even if it waits for an "
        "answer; at least an hour. It stays as long as a run or a letter could need it. Default: "
        "until `redrive checkpoints delete`.",
    )
    shared: bool = Field(
        default=False,
        description="Whether events of all workflows may continue a thread. By default, a thread "
        "belongs to the workflow that first used it.",
    )


class CheckpointSettings(BaseModel):
    """Where checkpoints are stored, and how long those of finished runs are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "sqlite:///redrive-checkpoints.db",
        description="sqlite:///FILE for one host; none for graphs that need no resume.",
    )
    ttl: Duration = Field(
        timedelta(hours=24),
        description="How long the checkpoints of a finished run are kept. Those of a letter are "
        "kept as long as it can be redriven.",
    )
    verify: Literal["off", "warn", "refuse"] = Field(
        "warn",
        description="Whether what nodes write is read back and compared: `warn` logs each new "
        "shape of a value that a checkpoint changes; with `refuse`, the run fails before it is "
        "stored.",
    )
    serializer: str | None = Field(
        None,
        description="Import path of a serializer, or of a function that returns one. Default: "
        "LangGraph's JsonPlusSerializer, which restores allowed types only.",
    )
    allowed_types: Listed[str] = Field(
        (),
        description="Types that a state may contain, beyond those in the graphs' schemas and "
        "packages: `module.Class`, or `package.*` for all models, dataclasses, enums and named "
        "tuples of a package.",
    )
    encryption_key: SecretStr | None = Field(
        None,
        description="A key of 16, 24 or 32 bytes, to encrypt checkpoints with AES. Set it by its "
        "variable, not in a file. Needs `redrive[encryption]`.",
    )
    old_encryption_keys: Listed[SecretStr] = Field(
        (),
        description="Earlier keys, which still decrypt but no longer encrypt.",
    )
