"""A worker that dies again and again, as its parent tells of it."""

from __future__ import annotations

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.notify.building import build_notifier
from redrive.notify.notice import Alarm, Trouble
from redrive.notify.notifier import Notifier
from redrive.notify.notify_settings import NotifySettings
from redrive.telemetry.redactor import Redactor

__all__ = ["CrashAlarm"]

log = structlog.get_logger("redrive.supervisor")

_FLUSH_S = 2.0


class CrashAlarm:
    """Tells of deaths from the `notify.crashes`-th in a row on.

    It makes what it needs only then, as a parent is to stay small.

    Args:
        settings: Channels, and how many deaths are too many.
        redactor: Masks secrets in messages.
        clock: For the times in messages.
    """

    def __init__(
        self, settings: NotifySettings, *, redactor: Redactor, clock: Clock = SYSTEM
    ) -> None:
        self._settings = settings
        self._redactor = redactor
        self._clock = clock
        self._notifier: Notifier | None = None

    def died(self, worker: str, in_a_row: int, how: str) -> None:
        """Tell of a death, if it is one too many; returns at once, and raises nothing.

        Args:
            worker: The name of the worker that died.
            in_a_row: How many deaths there were, since it last lived for a while.
            how: How the last one came.
        """
        if in_a_row < self._settings.crashes:
            return
        try:
            self._tell(worker, f"{in_a_row} deaths in a row; the last one: {how}")
        except Exception:
            # The parent lives on, whatever is wrong here.
            log.exception("supervisor.not_told")

    def close(self) -> None:
        """Wait for what is being told, for two seconds at most."""
        if self._notifier is not None:
            self._notifier.close()
            self._notifier.join(_FLUSH_S)

    def _tell(self, worker: str, detail: str) -> None:
        if self._notifier is None:
            self._notifier = build_notifier(
                self._settings, redactor=self._redactor, clock=self._clock, lazy=True
            )
            if self._notifier is None:
                return
            self._notifier.start()
        self._notifier.alarm(Alarm(Trouble.CRASH_LOOP, self._clock.now(), worker, detail))
