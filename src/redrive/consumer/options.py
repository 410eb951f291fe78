"""The settings `worker.*` and `metrics.*`: who a worker is, what it takes on, what it shows."""

from __future__ import annotations

import os
from datetime import timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from redrive.consumer.naming import unnamed
from redrive.units import Duration, Listed, Size

__all__ = ["Delivery", "MetricsSettings", "WorkerSettings"]


class Delivery(StrEnum):
    """What a reader of the results may rely on."""

    EXACTLY_ONCE = "exactly_once"
    AT_LEAST_ONCE = "at_least_once"


class WorkerSettings(BaseModel):
    """How one worker process behaves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(
        None,
        description="A stable name (a pod's, a unit's): a worker that died is back at its "
        "partitions in a second. Without one, the worker is a dynamic member.",
    )
    in_flight: int = Field(64, ge=1, le=4096, description="Runs at the same time.")
    buffer: Size = Field(
        64 * 2**20,
        ge=2**20,
        description="Bytes that events and their outcomes may hold in memory, over all partitions: "
        "as they came, parsed, and as results and letters that are not durable yet. At half of it "
        "fetching pauses, at all of it nothing more starts; of what waits for its time a quarter "
        "is kept, and the rest is read again.",
    )
    grace: Duration = Field(
        timedelta(seconds=25), description="How long a worker that is told to stop may take."
    )
    open_timeout: Duration = Field(
        timedelta(minutes=2),
        ge=timedelta(seconds=1),
        description="How long a lifespan, an async factory or a store of a graph may take to open "
        "before the worker gives up its start.",
    )
    loop_timeout: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=1),
        description="How long a node may block the event loop, and all other runs with it, before "
        "the process is replaced.",
    )
    standstill: Duration = Field(
        timedelta(minutes=2),
        ge=timedelta(seconds=5),
        description="How long results may wait to be stored, committed offsets to be read, or a "
        "call of the Kafka client to return, while Kafka is there: then the worker says what it "
        "waits for, `/livez` says 503, and the process ends with 75, to be replaced. What waits "
        "for a broker that is away, or for a topic that refuses, is not meant.",
    )
    delivery: Delivery = Field(Delivery.EXACTLY_ONCE, description="exactly_once or at_least_once.")
    processes: int = Field(
        1,
        ge=0,
        le=128,
        description="How many workers a parent process starts, watches and replaces when they "
        "die; each has `worker.in_flight` runs and a `worker.buffer` of its own. 0: one worker and "
        "no parent, for a platform that replaces the worker itself.",
    )
    template: bool = Field(
        default=True,
        description="Whether the parent keeps a process that has imported what workers need, and "
        "forks workers from it: a worker that died is back in half a second, and workers share "
        "memory. false: each worker is a Python of its own, and imports everything itself.",
    )
    preload: Listed[str] = Field(
        (),
        description="Modules that this process imports as well, such as `langchain_openai`: what "
        "your graphs import and takes long. Not your graphs: their code is read anew by each "
        "worker. A module that starts a thread or opens a connection while it is imported must "
        "not be forked: then the log says so, and there is no such process.",
    )

    @field_validator("preload")
    @classmethod
    def _are_modules(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not all(part.isidentifier() for part in name.split(".")):
                raise ValueError(f"{name!r} is no module's name: write it as package.module")
        return names

    @property
    def name(self) -> str:
        """What people call this worker: its id, else its host and process."""
        return self.id or unnamed(os.getpid())


class MetricsSettings(BaseModel):
    """What a worker shows over HTTP: `/metrics`, `/livez`, `/readyz`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(0, ge=0, le=65535, description="Where to listen. 0: nothing is served.")
    host: str = Field(
        "0.0.0.0",  # noqa: S104 - as exporters do; nothing is served unless a port is given
        min_length=1,
        description="The address to listen on: all of IPv4, as a kubelet and Prometheus need it. "
        "`::` for IPv6 as well, `127.0.0.1` for this host alone.",
    )
    stall: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=1),
        description="How long the event loop or a thread may stand still before `/livez` says 503.",
    )
