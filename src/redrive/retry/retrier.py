"""How a call is retried: `Retrier`, its `Hooks`, and what it counts, `RetryCounts`.

The loops that call functions are in `call.py` and `attempts.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from redrive.clock import SYSTEM, Clock
from redrive.retry.chain import links
from redrive.retry.classifier import Classifier, reason_of
from redrive.retry.decision import Decision, GiveUp, Retry, decide, within
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.retry.retry_config import RetryConfig
from redrive.retry.shapes import is_async, is_generator, refuse_awaitable

__all__ = [
    "FailedAttempt",
    "Hooks",
    "Retrier",
    "RetryCounts",
    "await_hook",
    "call_hook",
    "retrier_of",
    "running_loop",
]

T = TypeVar("T")

_INSTEAD = (
    "give a plain function, or await what is retried (`retry_async`, `@retry` above an "
    "`async def`, `async with attempt`)"
)
_OURS = "redrive: gave up after"
# As many as there may be layers of retries around each other, with some room.
_MOST_NOTES = 3


# The public one raises where no loop runs, which takes longer than all else here.
running_loop = asyncio._get_running_loop  # noqa: SLF001 - it is in the `__all__` of asyncio


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
    """Functions that are called with what happens; what they raise reaches the caller.

    An async hook, or one that returns an awaitable, is awaited where a call is awaited: by
    `retry_async`, by `@retry` above an async function, and by `async with attempt`. Anywhere else
    it is refused with a TypeError, where possible before the first attempt.

    Args:
        before_attempt: Gets the attempt's number, from 1, before it begins.
        on_failure: After every attempt that failed.
        before_sleep: Before the wait for another attempt (`failed.decision` is a `Retry`).
        gave_up: Before the error is raised (`failed.decision` is a `GiveUp`).

    `async_names` are the names of those that can be seen to be async.

    Raises:
        TypeError: A hook cannot be called, or is a generator function.
    """

    before_attempt: Callable[[int], object] | None = None
    on_failure: Callable[[FailedAttempt], object] | None = None
    before_sleep: Callable[[FailedAttempt], object] | None = None
    gave_up: Callable[[FailedAttempt], object] | None = None
    async_names: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        names = []
        for name in ("before_attempt", "on_failure", "before_sleep", "gave_up"):
            hook = getattr(self, name)
            if hook is None:
                continue
            if not callable(hook) or is_generator(hook):
                raise TypeError(f"{name} is {hook!r}: give a function, async or not")
            if is_async(hook):
                names.append(name)
        object.__setattr__(self, "async_names", tuple(names))

    def refuse_async(self, where: str) -> None:
        """Refuse hooks of which it is known that they must be awaited.

        Raises:
            TypeError: Some are async; `where` names what cannot await them.
        """
        if self.async_names:
            name = self.async_names[0]
            raise TypeError(f"{where} cannot await the async hook {name}: {_INSTEAD}")


# Made once: every call that is given a `RetryConfig` makes a `Retrier` around it. [N1]
_NO_HOOKS = Hooks()
_TABLES = Classifier()


@dataclass(frozen=True, slots=True)
class Retrier:
    """A policy with all that belongs to it; goes wherever a `RetryConfig` goes.

    Args:
        config: The policy.
        hooks: What is told of attempts.
        classifier: Judges what is raised.
        clock: Where time comes from; waits go through it.
        blocking: Whether what is called blocks its thread by itself, as a client that is no async
            one does: its waits then give no warning on the thread of an event loop.

    Raises:
        TypeError: `config` is no RetryConfig, or `hooks` are no Hooks.
    """

    config: RetryConfig = field(default_factory=RetryConfig)
    hooks: Hooks = _NO_HOOKS
    classifier: Classifier = _TABLES
    clock: Clock = SYSTEM
    blocking: bool = False

    def __post_init__(self) -> None:
        # Else a failure would be the first to meet it, and be hidden by what it raises.
        if not isinstance(self.config, RetryConfig):
            raise TypeError(f"{self.config!r} is not a policy: give a RetryConfig or a Retrier")
        if not isinstance(self.hooks, Hooks):
            raise TypeError(f"hooks is {self.hooks!r}: give Hooks(...)")


_DEFAULT = Retrier()


def retrier_of(config: RetryConfig | Retrier | None) -> Retrier:
    """Return the retrier that a `config` argument stands for."""
    if config is None:
        return _DEFAULT
    return config if isinstance(config, Retrier) else Retrier(config)


_Hook = Callable[[FailedAttempt], object]


class RetryCounts:
    """What one retried call has used so far: attempts and time."""

    __slots__ = ("_delay_s", "_started", "_waiting", "number", "retrier")

    def __init__(self, retrier: Retrier, *, started: float) -> None:
        self.retrier = retrier
        self._started = started
        self._delay_s: float | None = None
        self._waiting: FailedAttempt | None = None
        self.number = 1

    def begin(self) -> None:
        """Call the hook before an attempt; raise the last error if the wait took too long."""
        if (late := self._overslept()) is not None:
            for hook, failed in self._given_up(*late):
                call_hook(hook, failed)
            raise late[0].error
        before_attempt = self.retrier.hooks.before_attempt
        if before_attempt is not None:
            call_hook(before_attempt, self.number)

    async def begin_async(self) -> None:
        """As `begin`, for hooks of both kinds."""
        if (late := self._overslept()) is not None:
            for hook, failed in self._given_up(*late):
                await await_hook(hook, failed)
            raise late[0].error
        before_attempt = self.retrier.hooks.before_attempt
        if before_attempt is not None:
            await await_hook(before_attempt, self.number)

    def fail(self, error: Exception) -> float | None:
        """Decide about a failed attempt: seconds to the next one, or None to raise the error."""
        for hook, failed in self._judged(error):
            call_hook(hook, failed)
        return self._delay_s

    async def fail_async(self, error: Exception) -> float | None:
        """As `fail`, for hooks of both kinds."""
        for hook, failed in self._judged(error):
            await await_hook(hook, failed)
        return self._delay_s

    def _judged(self, error: Exception) -> Iterator[tuple[_Hook, FailedAttempt]]:
        """Give the hooks to be called, one after the other; `_delay_s` holds when all were."""
        hooks, failed = self.retrier.hooks, self._decide(error)
        self._delay_s = None
        if hooks.on_failure is not None:
            yield hooks.on_failure, failed
        if isinstance(failed.decision, Retry) and hooks.before_sleep is not None:
            yield hooks.before_sleep, failed
            # The hooks took time as well. [P8]
            if (remaining_s := self._remaining_s()) is not None:
                failed = replace(failed, decision=within(failed.decision, remaining_s))
        if isinstance(failed.decision, Retry):
            self.number += 1
            self._delay_s = failed.decision.after_s
            # Only where it may be needed: an error keeps alive what its frames hold.
            self._waiting = None if self.retrier.config.total_limit is None else failed
            return
        yield from self._given_up(failed, failed.decision)

    def _given_up(
        self, failed: FailedAttempt, decision: GiveUp
    ) -> Iterator[tuple[_Hook, FailedAttempt]]:
        _leave_note(failed.error, _note(failed.number, failed.failure, decision))
        if self.retrier.hooks.gave_up is not None:
            yield self.retrier.hooks.gave_up, replace(failed, decision=decision)

    def _overslept(self) -> tuple[FailedAttempt, GiveUp] | None:
        """Return the failure that was waited after, and its end, if the wait went past the limit.

        A busy event loop or machine wakes later than it was asked to. [P8]
        """
        failed, self._waiting = self._waiting, None
        remaining_s = None if failed is None else self._remaining_s()
        if failed is None or remaining_s is None or remaining_s >= 0:
            return None
        why = f"the wait ended {-remaining_s:.3g} s after the deadline"
        return failed, GiveUp(Reason.DEADLINE, why)

    def _decide(self, error: Exception) -> FailedAttempt:
        retrier = self.retrier
        failure = retrier.classifier.classify(error)
        if _hides_cancellation(error):
            failure = Failure(Kind.CANCELLED, why="the task was cancelled while the attempt ran")
        decision = decide(
            failure,
            failed_attempts=self.number,
            policy=retrier.config,
            roll=retrier.clock.random(),
            remaining_s=self._remaining_s(),
            reason=reason_of(error),
        )
        return FailedAttempt(self.number, error, failure, decision)

    def _remaining_s(self) -> float | None:
        limit_s = self.retrier.config.total_limit_s
        if limit_s is None:
            return None
        return limit_s - (self.retrier.clock.monotonic() - self._started)


def _hides_cancellation(error: Exception) -> bool:
    """Whether the attempt was cancelled, and raised an error of its own in place of that.

    A client that fails while it cleans up does so. To retry it would undo the cancellation, which
    comes once. What was cancelled before the attempt, whose caller retries a step of its own
    cleaning up, is another thing: its CancelledError was not caught within the attempt.
    """
    task = None if running_loop() is None else asyncio.current_task()
    if task is None or not task.cancelling():
        return False
    # The outermost frame is the one that retries.
    attempt = error.__traceback__.tb_next if error.__traceback__ else None
    frames = {frame for frame, _ in traceback.walk_tb(attempt)}
    return any(
        isinstance(link.exc, asyncio.CancelledError)
        and link.exc.__traceback__ is not None
        and link.exc.__traceback__.tb_frame in frames
        for link in links(error)
    )


def call_hook(hook: Callable[[T], object], fact: T) -> None:
    """Call a hook where nothing can be awaited.

    Raises:
        TypeError: It returned an awaitable.
    """
    refuse_awaitable(hook, hook(fact), _INSTEAD)


async def await_hook(hook: Callable[[T], object], fact: T) -> None:
    """Call a hook, and await what it returned if it must be awaited.

    Raises:
        TypeError: It returned a generator.
    """
    answer = hook(fact)
    if inspect.isawaitable(answer):
        await answer
    else:
        refuse_awaitable(hook, answer, _INSTEAD)


def _leave_note(error: Exception, note: str) -> None:
    """Add a note to an error, which may be one object that many calls raise.

    No note of ours stands there twice, and no more than the last few.
    """
    try:
        notes = getattr(error, "__notes__", ())
        ours = [at for at in notes if isinstance(at, str) and at.startswith(_OURS)]
        if note not in ours:
            error.add_note(note)
            for old in ours[: 1 - _MOST_NOTES]:
                error.__notes__.remove(old)
    except Exception:  # noqa: BLE001 - a class that takes no note: its error is what counts
        return


def _note(number: int, failure: Failure, decision: GiveUp) -> str:
    attempts = "1 attempt" if number == 1 else f"{number} attempts"
    return f"{_OURS} {attempts} ({decision.reason}): {decision.why}; {failure.why}"
