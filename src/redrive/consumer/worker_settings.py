"""The settings `worker.*` and `metrics.*`: who a worker is, what it takes on, what it shows."""

from __future__ import annotations

import os
from datetime import timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from redrive.consumer.naming import unnamed
from redrive.units import Duration, Listed, Size

__all__ = ["DeliveryGuarantee", "MetricsSettings", "WorkerSettings"]


class DeliveryGuarantee(StrEnum):
    """What a reader of the results may rely on."""

    EXACTLY_ONCE = "exactly_once"
    AT_LEAST_ONCE = "at_least_once"


class WorkerSettings(BaseModel):
    """How one worker process behaves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(
        None,
        description="A stable name, such as that of a pod or a systemd unit, so that a restarted "
        "worker has its partitions back in a second. Without one, the worker is a dynamic member "
        "of the group.",
    )
    in_flight: int = Field(64, ge=1, le=4096, description="How many runs at the same time.")
    buffer: Size = Field(
        64 * 2**20,
        ge=2**20,
        description="How much memory events and their outcomes may use, over all partitions: as "
        "received, parsed, and as results and letters that are not durable yet. Fetching pauses "
        "at half of it, and nothing more starts once all of it is used. Events that wait for a "
        "retry may use a quarter; the others are read again later.",
    )
    grace: Duration = Field(
        timedelta(seconds=25), description="How long a worker may take to stop."
    )
    open_timeout: Duration = Field(
        timedelta(minutes=2),
        ge=timedelta(seconds=1),
        description="How long a graph's lifespan, async factory or store may take to open before "
        "the worker gives up starting.",
    )
    loop_timeout: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=1),
        description="How long a node may block the event loop, and with it all other runs, before "
        "the process is replaced.",
    )
    standstill: Duration = Field(
        timedelta(minutes=2),
        ge=timedelta(seconds=5),
        description="How long results may wait to be stored, committed offsets to be read, or a "
        "call of the Kafka client to return while Kafka is reachable. After that the worker logs "
        "what it waits for, `/livez` answers 503, and the process exits with 75, to be replaced. "
        "Waiting for a broker that is down, or for a topic that refuses records, does not count.",
    )
    delivery: DeliveryGuarantee = Field(
        DeliveryGuarantee.EXACTLY_ONCE,
        description="The delivery guarantee for "
        "results and dead letters: exactly_once or at_least_once.",
    )
    processes: int = Field(
        1,
        ge=0,
        le=128,
        description="How many workers the parent process starts, watches and replaces when they "
        "die; each has its own `worker.in_flight` and `worker.buffer`. 0 means one worker "
        "without a parent, for a platform that replaces workers itself.",
    )
    template: bool = Field(
        default=True,
        description="Whether the parent keeps a template process that has imported what workers "
        "need, and forks workers from it: a dead worker is replaced in half a second, and "
        "workers share memory. With false, each worker is a Python process of its own that "
        "imports everything itself.",
    )
    preload: Listed[str] = Field(
        (),
        description="Further modules for the template process to import, such as "
        "`langchain_openai`: slow imports of your graphs, but not the graphs, whose code each "
        "worker reads anew. A module that starts a thread or opens a connection on import cannot "
        "be forked: in that case the log reports it, and no template is used.",
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
    """What a worker serves over HTTP: `/metrics`, `/livez`, `/readyz`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(0, ge=0, le=65535, description="The port to listen on; 0 serves nothing.")
    host: str = Field(
        "0.0.0.0",  # noqa: S104 - as exporters do; nothing is served unless a port is given
        min_length=1,
        description="The address to listen on. The default is all of IPv4, which a kubelet and "
        "Prometheus need; `::` listens on IPv6 as well, `127.0.0.1` on this host only.",
    )
    stall: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=1),
        description="How long the event loop or a thread may be stuck before `/livez` answers 503.",
    )
