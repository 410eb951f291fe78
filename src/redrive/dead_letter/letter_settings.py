"""The settings `letters.*`: what is kept out of letters, how long they stay, where at the worst."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from redrive.dead_letter.redacted_text import Redactor
from redrive.kafka.topic_rules import TopicNeeds
from redrive.telemetry.personal import Personal
from redrive.units import Duration, Listed, Size

__all__ = ["LetterSettings"]

_NO_SPOOL = "none"


class LetterSettings(BaseModel):
    """Dead letters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    redact: tuple[str, ...] = Field(
        (),
        description="Regular expressions for your own secrets, to mask in everything that "
        "redrive adds to a letter.",
    )
    redact_personal: Listed[Personal] = Field(
        (),
        description="Personal data to mask in everything that redrive adds to a letter: `emails`, "
        "`phones` (with `+` and the country), `ibans`, `cards`. The event itself is not changed.",
    )
    retention: Duration = Field(
        timedelta(days=30),
        gt=timedelta(0),
        description="How long letters stay on their topic. `topics create` sets it; `topics "
        "verify` warns if the topic keeps them for less.",
    )
    retention_bytes: Size | None = Field(
        None,
        ge=1,
        description="How many bytes of letters each partition keeps; older letters are deleted "
        "whatever their age. Default: only the age counts.",
    )
    audit_retention: Duration = Field(
        timedelta(days=365),
        gt=timedelta(0),
        description="How long records stay on `kafka.audit_topic`. `topics create` sets it; "
        "`topics verify` warns if the topic keeps them for less.",
    )
    many_open: int = Field(
        1_000,
        ge=1,
        description="The number of open letters from which `redrive dlq stats` raises an alarm.",
    )
    near_retention: float = Field(
        0.8,
        gt=0,
        description="The share of the retention from which the age of an open letter raises an "
        "alarm: 0.8 of 30 days is 24 days.",
    )
    spool: str = Field(
        "redrive-letters.jsonl",
        min_length=1,
        description="The file to which a worker appends letters that Kafka does not accept; none "
        "for no file.",
    )
    spool_after: Duration = Field(
        timedelta(minutes=1),
        description="How long a letter waits for Kafka before it is written to the file.",
    )
    spool_max: Size = Field(
        256 * 2**20,
        ge=1,
        description="The largest size of that file; beyond it, nothing is appended.",
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
