"""The settings `letters.*`: what is kept out of letters, and where they go at the worst."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LetterSettings"]


class LetterSettings(BaseModel):
    """Dead letters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    redact: tuple[str, ...] = Field(
        (), description="Regular expressions of secrets of your own, masked in what redrive adds."
    )
