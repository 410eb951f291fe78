"""The settings `letters.*`: what is kept out of letters, how long they stay, where at the worst."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from redrive.dead_letter.redact import Redactor
from redrive.kafka.topic_rules import TopicNeeds
from redrive.telemetry.personal import Personal
from redrive.units import Duration, Listed, Size

__all__ = ["LetterSettings"]

_NO_SPOOL = "none"


class LetterSettings(BaseModel):
    """Dead letters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    redact: tuple[str, ...] = Field(
        (), description="Regular expressions of secrets of your own, masked in what redrive adds."
    )
    redact_personal: Listed[Personal] = Field(
        (),
        description="Personal data that is masked in what redrive adds: `emails`, `phones` (with "
        "`+` and the country), `ibans`, `cards`. Events keep theirs.",
    )
    retention: Duration = Field(
        timedelta(days=30),
        gt=timedelta(0),
        description="How long letters stay on their topic: `topics create` sets it, `topics "
        "verify` warns when it is shorter.",
    )
    retention_bytes: Size | None = Field(
        None,
        ge=1,
        description="Bytes of letters that each partition keeps; older ones go, whatever their "
        "age. Without it, age alone counts.",
    )
    audit_retention: Duration = Field(
        timedelta(days=365),
        gt=timedelta(0),
        description="How long records stay on `kafka.audit_topic`: `topics create` sets it, "
        "`topics verify` warns when it is shorter.",
    )
    many_open: int = Field(
        1_000, ge=1, description="So many open letters are an alarm of `redrive dlq figures`."
    )
    near_retention: float = Field(
        0.8,
        gt=0,
        description="And so is an open letter of this part of the retention's age: 0.8 of 30 days.",
    )
    spool: str = Field(
        "redrive-letters.jsonl",
        min_length=1,
        description="The file to which a worker appends letters that Kafka does not take; none "
        "for no file.",
    )
    spool_after: Duration = Field(
        timedelta(minutes=1), description="How long a letter may wait for Kafka before that."
    )
    spool_max: Size = Field(
        256 * 2**20, ge=1, description="The largest that file may grow; then nothing is appended."
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
        return Redactor(self.redact, personal=self.redact_personal)

    @property
    def spool_path(self) -> Path | None:
        """Where the spool lies, or None where there is none."""
        return None if self.spool == _NO_SPOOL else Path(self.spool)

    def topic_needs(self) -> TopicNeeds:
        """Return what the topics must be like for this."""
        return TopicNeeds(
            letters_retention=self.retention,
            letters_retention_bytes=self.retention_bytes,
            audit_retention=self.audit_retention,
        )
