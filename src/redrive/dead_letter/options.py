"""The settings `letters.*`: what is kept out of letters, and where they go at the worst."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from redrive.dead_letter.redact import Redactor

__all__ = ["LetterSettings"]


class LetterSettings(BaseModel):
    """Dead letters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    redact: tuple[str, ...] = Field(
        (), description="Regular expressions of secrets of your own, masked in what redrive adds."
    )

    @field_validator("redact")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for number, pattern in enumerate(patterns, 1):
            try:
                Redactor((pattern,))
            except ValueError as error:
                raise ValueError(f"pattern {number}: {error}") from error
        return patterns

    def redactor(self) -> Redactor:
        """Return what masks secrets, those of your own among them."""
        return Redactor(self.redact)
