"""Who watches a worker is told here: of attempts that ended, and of endings that are durable.

The one place that guards the worker against its watchers: what they raise ends with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.consumer.outcome import Account
from redrive.retry.kinds import Kind
from redrive.telemetry.instruments import Counter
from redrive.telemetry.metrics import OBSERVER_FAILURES
from redrive.telemetry.redactor import BUILT_IN

__all__ = ["AttemptEnd", "Observer", "Observers"]

log = structlog.get_logger("redrive.observers")

_SLOW_S = 0.5


class AttemptEnd(NamedTuple):
    """An attempt that ended by itself or at a limit; one that was drained or cut did not end.

    Args:
        workflow_id: As the event says.
        event_id: As the event says.
        number: Which attempt of the run, from 1, over all lives of its workers.
        kind: What its failure was; None if the graph ended.
        took_s: Seconds from its begin to its end.
        retry_after_s: Seconds until the next one may begin; None if none follows.
    """

    workflow_id: str
    event_id: str
    number: int
    kind: Kind | None
    took_s: float
    retry_after_s: float | None = None


class Observer(Protocol):
    """Watches a worker. Calls come on its event loop, and must return at once.

    Whatever takes time, such as a request to somewhere, is for a thread and a bounded queue of the
    observer's own. All runs wait while it is called.
    """

    def attempt_ended(self, attempt: AttemptEnd) -> None:
        """Take note of an attempt; what its run comes to is not durable yet."""
        ...

    def settled(self, accounts: Sequence[Account]) -> None:
        """Take note of endings that are durable; each is told once."""
        ...


class Observers:
    """All who watch one worker; belongs to its event loop.

    What one raises is logged once for each class of error and counted; the others, and the worker,
    go on. One that takes long is logged once.

    Args:
        observers: Told in this order.
        clock: Says how long each of them takes.
        failures: Counts the calls that failed, by the observer's class.
    """

    def __init__(
        self,
        observers: Sequence[Observer] = (),
        *,
        clock: Clock = SYSTEM,
        failures: Counter | None = None,
    ) -> None:
        self._failures = failures or Counter(OBSERVER_FAILURES)
        self._observers = tuple(observers)
        self._clock = clock
        self._told: set[tuple[str, ...]] = set()

    def attempt_ended(self, attempt: AttemptEnd) -> None:
        """Tell of one attempt."""
        for observer in self._observers:
            self._guarded(observer, observer.attempt_ended, attempt)

    def settled(self, accounts: Sequence[Account]) -> None:
        """Tell of endings that are durable."""
        if accounts:
            for observer in self._observers:
                self._guarded(observer, observer.settled, accounts)

    def _guarded(self, observer: Observer, call: Callable[..., None], told: object) -> None:
        began = self._clock.monotonic()
        name = type(observer).__name__
        try:
            call(told)
        except Exception as error:
            # The boundary: nobody who watches stops the work.
            self._failures.add(name)
            if self._first(name, type(error).__qualname__):
                log.exception("observer.failed", observer=name, error=BUILT_IN.mask(repr(error)))
        took_s = self._clock.monotonic() - began
        if took_s > _SLOW_S and self._first(name):
            log.warning("observer.slow", observer=name, took_s=round(took_s, 3))

    def _first(self, *what: str) -> bool:
        first = what not in self._told
        self._told.add(what)
        return first
