"""The settings `worker.*`: who this worker is, how much it takes on, how it stops."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from redrive.units import Duration, Size

__all__ = ["Delivery", "WorkerSettings"]


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
        description="Bytes of events that wait in memory, over all partitions.",
    )
    grace: Duration = Field(
        timedelta(seconds=25), description="How long a worker that is told to stop may take."
    )
    loop_timeout: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=1),
        description="How long a node may block the event loop, and all other runs with it, before "
        "the process is replaced.",
    )
    delivery: Delivery = Field(Delivery.EXACTLY_ONCE, description="exactly_once or at_least_once.")
    processes: int = Field(
        1,
        ge=0,
        description="1: a parent process watches the worker and replaces it when it dies. 0: no "
        "parent, for a platform that replaces the worker itself.",
    )

    @property
    def name(self) -> str:
        """What people call this worker: its id, else its host and process."""
        return self.id or f"{socket.gethostname()}:{os.getpid()}"

    @field_validator("processes")
    @classmethod
    def _is_built(cls, processes: int) -> int:
        if processes > 1:
            raise ValueError(
                f"{processes} workers under one parent are not built yet: set 1, and start "
                "several `redrive worker`, each with an id of its own"
            )
        return processes
