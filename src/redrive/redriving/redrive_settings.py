"""The settings `redrive.*`: how letters are driven again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RedriveSettings"]


class RedriveSettings(BaseModel):
    """Redrives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max: int = Field(3, ge=1, description="How often one event may be redriven.")
