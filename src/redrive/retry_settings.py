"""The settings `retry.*` and `graphs.<id>.retry.*`: how often and how long, and rules of your own.

They become a `RetryConfig` and a `Classifier` here; what those do is in `redrive.retry`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from redrive.clock import SYSTEM, Clock
from redrive.retry.backoff import Backoff, Decorrelated, Fibonacci, Fixed, Linear
from redrive.retry.classifier import Classifier
from redrive.retry.kinds import Kind
from redrive.retry.retry_config import RETRYABLE, RetryConfig
from redrive.retry.rule import Rule
from redrive.units import Duration

__all__ = ["GraphRetrySettings", "RetrySettings", "RuleSettings", "Strategy"]

Retries = Annotated[int, Field(ge=0, le=1000)]
Base = Annotated[float, Field(ge=1)]
Kinds = dict[Kind, Retries]

_CLASS_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


class Strategy(StrEnum):
    """How the delays before the retries grow."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    FIXED = "fixed"
    FIBONACCI = "fibonacci"
    DECORRELATED = "decorrelated"


class RuleSettings(BaseModel):
    """Errors that meet all conditions of a rule get its kind; the first matching rule decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Field(
        description="The kind that matching errors get: transient, rate_limited, timeout, "
        "permanent, poison, cancelled or unknown."
    )
    error: str | None = Field(
        None,
        description="Condition: the error's class or a base class, as package.Class or "
        "package.module.Class; for Python's own, builtins.ValueError and so on.",
    )
    status: int | None = Field(
        None, ge=300, le=599, description="Condition: the HTTP status that the error carries."
    )
    message: str | None = Field(
        None, description="Condition: a regular expression to search for in the error's message."
    )
    cause: str | None = Field(
        None, description="Condition: as `error`, for any exception behind this one."
    )
    retry_after: Duration | None = Field(
        None, description="The shortest delay before a retry, unless the error names one itself."
    )
    name: str = Field("", description="The rule's name in logs.")

    @field_validator("error", "cause")
    @classmethod
    def _is_a_class_name(cls, name: str | None) -> str | None:
        if name is not None and not _CLASS_NAME.fullmatch(name):
            raise ValueError(
                "not the name of a class: write it as package.Class or package.module.Class; "
                "a class of Python's own is builtins.ValueError, say"
            )
        return name

    @field_validator("message")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _can_work(self) -> RuleSettings:
        self.rule()
        return self

    def rule(self) -> Rule:
        """Return the rule as `redrive.retry` takes it."""
        return Rule(
            self.kind,
            error=self.error,
            status=self.status,
            message=self.message,
            cause=self.cause,
            retry_after=None if self.retry_after is None else self.retry_after.total_seconds(),
            name=self.name,
        )


class RetrySettings(BaseModel):
    """How failures are retried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_retries: Retries = Field(3, description="Attempts after the first one.")
    initial_delay: Duration = Field(
        timedelta(seconds=1), description="The delay before the first retry."
    )
    max_delay: Duration = Field(timedelta(seconds=60), description="No delay is longer than this.")
    exponential_base: Base = Field(
        2.0, description="The factor from one delay to the next with exponential backoff."
    )
    jitter: bool = Field(
        default=True,
        description="Whether to randomise the delays, so that retries do not come all at once.",
    )
    backoff: Strategy = Field(
        Strategy.EXPONENTIAL,
        description="How the delays grow from initial_delay: exponential; linear (1, 2, 3 times); "
        "fixed; fibonacci (1, 1, 2, 3, 5 times); decorrelated (a random value up to 3, 9, 27 "
        "times).",
    )
    kinds: Kinds = Field(
        default_factory=dict,
        description="Retries for single kinds, as in `timeout = 1`. Default: max_retries for "
        "transient, rate_limited and timeout, 1 for unknown.",
    )
    total_limit: Duration | None = Field(
        None, description="No retry begins later than this after the first attempt began."
    )
    longest_rest: Duration = Field(
        timedelta(seconds=120),
        description="How long at most a Retry-After holds back runs other than the one that "
        "received it; 0 holds back none.",
    )
    max_crashes: int = Field(
        3,
        ge=1,
        description="How often the process may die while an event runs before the event becomes a "
        "dead letter of kind poison.",
    )
    rules: tuple[RuleSettings, ...] = Field(
        (), description="Rules of your own, before the built-in ones; see below."
    )

    @field_validator("kinds")
    @classmethod
    def _can_be_retried(cls, kinds: Kinds) -> Kinds:
        return _checked(kinds)

    @model_validator(mode="after")
    def _can_work(self) -> RetrySettings:
        self.config()
        return self

    def config(self) -> RetryConfig:
        """Return the policy as `redrive.retry` takes it."""
        return RetryConfig(
            max_retries=self.max_retries,
            initial_delay=self.initial_delay.total_seconds(),
            max_delay=self.max_delay.total_seconds(),
            exponential_base=self.exponential_base,
            jitter=self.jitter,
            backoff=self._backoff(),
            kind_retries=self.kinds,
            total_limit=self.total_limit,
        )

    def classifier(self, clock: Clock = SYSTEM) -> Classifier:
        """Return what judges errors: the rules of the user first, then the built-in tables."""
        return Classifier(rules=tuple(rule.rule() for rule in self.rules), clock=clock)

    def _backoff(self) -> Backoff | None:
        initial, longest = self.initial_delay.total_seconds(), self.max_delay.total_seconds()
        if self.backoff is not Strategy.EXPONENTIAL and longest < initial:
            # RetryConfig says it in the words of these settings; the strategies would not.
            return None
        match self.backoff:
            case Strategy.EXPONENTIAL:
                return None
            case Strategy.LINEAR:
                return Linear(initial, step=initial, maximum=longest, jitter=self.jitter)
            case Strategy.FIXED:
                return Fixed(initial, jitter=self.jitter)
            case Strategy.FIBONACCI:
                return Fibonacci(initial, maximum=longest, jitter=self.jitter)
            case Strategy.DECORRELATED if not self.jitter:
                raise ValueError("backoff = decorrelated is a spread: it cannot go without jitter")
            case Strategy.DECORRELATED:
                return Decorrelated(initial, maximum=longest)


def _description(key: str) -> str | None:
    return RetrySettings.model_fields[key].description


class GraphRetrySettings(BaseModel):
    """Retries of this graph only: a key that is set here replaces the one in `retry`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_retries: Retries | None = Field(None, description=_description("max_retries"))
    initial_delay: Duration | None = Field(None, description=_description("initial_delay"))
    max_delay: Duration | None = Field(None, description=_description("max_delay"))
    exponential_base: Base | None = Field(None, description=_description("exponential_base"))
    jitter: bool | None = Field(None, description=_description("jitter"))
    backoff: Strategy | None = Field(None, description=_description("backoff"))
    kinds: Kinds = Field(default_factory=dict, description=_description("kinds"))
    total_limit: Duration | None = Field(None, description=_description("total_limit"))

    @field_validator("kinds")
    @classmethod
    def _can_be_retried(cls, kinds: Kinds) -> Kinds:
        return _checked(kinds)

    def over(self, general: RetrySettings) -> RetrySettings:
        """Return `general` with what is given here in its place; of `kinds`, kind by kind."""
        given = {name: value for name, value in self if value is not None}
        return general.model_copy(update=given | {"kinds": {**general.kinds, **self.kinds}})


def _checked(kinds: Mapping[Kind, int]) -> Kinds:
    for kind, retries in kinds.items():
        if retries and kind not in RETRYABLE:
            raise ValueError(
                f"a failure of kind {kind.value} is never retried: "
                "give the error another kind, with a rule in retry.rules"
            )
    return dict(kinds)
