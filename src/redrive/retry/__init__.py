"""Deciding and retrying one call; needs the standard library only."""

from __future__ import annotations

from redrive.retry.attempts import Attempt, Attempts, attempts
from redrive.retry.backoff import (
    Backoff,
    Custom,
    Decorrelated,
    Exponential,
    Fibonacci,
    Fixed,
    Linear,
)
from redrive.retry.call import retry, retry_async
from redrive.retry.classifier import Classifier, classify, is_transient_error, reason_of
from redrive.retry.decision import Decision, GiveUp, Retry, decide
from redrive.retry.dependency import dependency_of
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.retry.retrier import FailedAttempt, Hooks, Retrier
from redrive.retry.retry_config import RetryConfig
from redrive.retry.rule import Rule

__all__ = [
    "Attempt",
    "Attempts",
    "Backoff",
    "Classifier",
    "Custom",
    "Decision",
    "Decorrelated",
    "Exponential",
    "FailedAttempt",
    "Failure",
    "Fibonacci",
    "Fixed",
    "GiveUp",
    "Hooks",
    "Kind",
    "Linear",
    "Reason",
    "Retrier",
    "Retry",
    "RetryConfig",
    "Rule",
    "attempts",
    "classify",
    "decide",
    "dependency_of",
    "is_transient_error",
    "reason_of",
    "retry",
    "retry_async",
]
