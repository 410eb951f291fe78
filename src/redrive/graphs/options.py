"""The settings `graphs.<id>.*` and `checkpoints.*`: which graph runs, where its state is kept."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from redrive.retry_settings import GraphRetrySettings
from redrive.units import Duration

__all__ = ["CheckpointSettings", "GraphSettings"]


class GraphSettings(BaseModel):
    """One graph: where it is, and how an event becomes its input and its state a result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str = Field(description="The graph's import path, as package.module:attribute.")
    input: str | None = Field(
        None, description="Import path of event -> graph input; default: payload.data goes in."
    )
    output: str | None = Field(
        None, description="Import path of last state -> result; default: the state comes out."
    )
    version: str | None = Field(
        None, description="The graph's version; default: a hash of its drawing."
    )
    recursion_limit: int = Field(100, ge=1, description="Supersteps a run may take.")
    retry: GraphRetrySettings = Field(
        default_factory=GraphRetrySettings, description="Retries of this graph alone."
    )


class CheckpointSettings(BaseModel):
    """Where checkpoints live, and how long those of finished runs are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "sqlite:///redrive-checkpoints.db",
        description="sqlite:///FILE for one host; none for graphs that need no resume.",
    )
    ttl: Duration = Field(
        timedelta(hours=24), description="How long the checkpoints of a finished run are kept."
    )
