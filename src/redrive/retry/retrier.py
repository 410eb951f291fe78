"""How a call is retried (`Retrier`), what it tells on the way (`Hooks`), and its count (`Tally`).

The loops that call functions are in `call.py` and `attempts.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from redrive.clock import SYSTEM, Clock
from redrive.retry.classify import Classifier, reason_of
from redrive.retry.config import RetryConfig
from redrive.retry.decision import Decision, GiveUp, Retry, decide
from redrive.retry.kinds import Failure

__all__ = ["FailedAttempt", "Hooks", "Retrier", "Tally", "retrier_of"]


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One attempt that failed, how it was judged, and what was decided.

    `number` counts from 1.
    """

    number: int
    error: Exception
    failure: Failure
    decision: Decision


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions to be told what happens; what they raise reaches the caller.

    Args:
        before_attempt: Gets the attempt's number, from 1, before it begins.
        on_failure: After every attempt that failed.
        before_sleep: Before the wait for another attempt (`failed.decision` is a `Retry`).
        gave_up: Before the error is raised (`failed.decision` is a `GiveUp`).
    """

    before_attempt: Callable[[int], object] | None = None
    on_failure: Callable[[FailedAttempt], object] | None = None
    before_sleep: Callable[[FailedAttempt], object] | None = None
    gave_up: Callable[[FailedAttempt], object] | None = None


# Made once: every call that is given a `RetryConfig` makes a `Retrier` around it. [N1]
_NO_HOOKS = Hooks()
_TABLES = Classifier()


@dataclass(frozen=True, slots=True)
class Retrier:
    """A policy with all that belongs to it; goes wherever a `RetryConfig` goes."""

    config: RetryConfig = field(default_factory=RetryConfig)
    hooks: Hooks = _NO_HOOKS
    classifier: Classifier = _TABLES
    clock: Clock = SYSTEM


_DEFAULT = Retrier()


def retrier_of(config: RetryConfig | Retrier | None) -> Retrier:
    """Return the retrier that a `config` argument stands for."""
    if config is None:
        return _DEFAULT
    return config if isinstance(config, Retrier) else Retrier(config)


class Tally:
    """What one retried call has used so far: attempts and time."""

    __slots__ = ("_started", "number", "retrier")

    def __init__(self, retrier: Retrier, *, started: float) -> None:
        self.retrier = retrier
        self._started = started
        self.number = 1

    def begin(self) -> None:
        """Tell that an attempt begins."""
        before_attempt = self.retrier.hooks.before_attempt
        if before_attempt is not None:
            before_attempt(self.number)

    def fail(self, error: Exception) -> float | None:
        """Decide about a failed attempt: seconds to the next one, or None to raise the error."""
        retrier, hooks = self.retrier, self.retrier.hooks
        failure = retrier.classifier.classify(error)
        decision = decide(
            failure,
            failed_attempts=self.number,
            policy=retrier.config,
            roll=retrier.clock.random(),
            remaining_s=self._remaining_s(),
            reason=reason_of(error),
        )
        failed = FailedAttempt(self.number, error, failure, decision)
        if hooks.on_failure is not None:
            hooks.on_failure(failed)
        if isinstance(decision, Retry):
            if hooks.before_sleep is not None:
                hooks.before_sleep(failed)
            self.number += 1
            return decision.after_s
        error.add_note(_note(self.number, failure, decision))
        if hooks.gave_up is not None:
            hooks.gave_up(failed)
        return None

    def _remaining_s(self) -> float | None:
        limit_s = self.retrier.config.total_limit_s
        if limit_s is None:
            return None
        return limit_s - (self.retrier.clock.monotonic() - self._started)


def _note(number: int, failure: Failure, decision: GiveUp) -> str:
    attempts = "1 attempt" if number == 1 else f"{number} attempts"
    return f"redrive: gave up after {attempts} ({decision.reason}): {decision.why}; {failure.why}"
