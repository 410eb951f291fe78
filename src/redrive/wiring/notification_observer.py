"""From what a worker comes to, to what people are told: joins its observers and the notifier."""

from __future__ import annotations

from collections.abc import Sequence

from redrive.clock import Clock
from redrive.consumer.observing import AttemptEnd
from redrive.consumer.outcome import Account, Ending
from redrive.dead_letter.redacted_text import readable
from redrive.graphs.import_paths import import_function
from redrive.notify.building import build_notifier
from redrive.notify.hook import OnDeadLetter
from redrive.notify.notice import Alarm, LetterNotice, Trouble
from redrive.notify.notifier import Notifier
from redrive.settings import Settings

__all__ = ["NotificationObserver"]

_LOOK_S = 0.01
_MOST_CHARS = 500


class NotificationObserver:
    """An observer that tells people of letters, and of trouble with the spool.

    Args:
        settings: All settings.
        on_dead_letter: Called with each letter, in the place of `notify.hook`.
        worker: This worker's name.
        clock: For windows and times.

    Raises:
        SettingsError: A URL names no service, or the hook cannot be called.
        MissingExtraError: apprise is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        on_dead_letter: OnDeadLetter | None,
        *,
        worker: str,
        clock: Clock,
    ) -> None:
        hook = on_dead_letter
        if hook is None and settings.notify.hook is not None:
            hook = import_function(settings.notify.hook, what="notify.hook")
        self._worker = worker
        self._clock = clock
        self._notifier: Notifier | None = build_notifier(
            settings.notify, redactor=settings.letters.redactor(), clock=clock, hook=hook
        )

    def start(self) -> None:
        """Begin to tell."""
        if self._notifier is not None:
            self._notifier.start()

    def attempt_ended(self, attempt: AttemptEnd) -> None:
        """Nothing: an attempt that failed may be followed by another."""

    def settled(self, accounts: Sequence[Account]) -> None:
        """Tell of the letters among these endings."""
        if self._notifier is None:
            return
        for account in accounts:
            if account.ending is Ending.DEAD_LETTERED and account.error is not None:
                self._notifier.letter(self._notice(account))

    def spooled(self, problem: str | None) -> None:
        """Tell of a letter that was spooled, or of why one could not be."""
        trouble = Trouble.SPOOLED if problem is None else Trouble.NOT_SPOOLED
        if self._notifier is not None:
            now = self._clock.now()
            self._notifier.alarm(Alarm(trouble, now, self._worker, problem or ""))

    async def end(self, *, limit_s: float) -> None:
        """Tell what was not told yet, for as long as that at most."""
        notifier, self._notifier = self._notifier, None
        if notifier is None:
            return
        deadline = self._clock.monotonic() + limit_s
        notifier.close()
        # Not in a thread of the loop's: nodes that do not end may have taken all of them.
        while not notifier.ended and self._clock.monotonic() < deadline:
            await self._clock.sleep(_LOOK_S)
        notifier.join(0)

    def _notice(self, account: Account) -> LetterNotice:
        error, graph = account.error, account.graph
        assert error is not None  # noqa: S101 - looked at by who calls
        return LetterNotice(
            dlq_id=error.dlq_id or "",
            at=self._clock.now(),
            kind=error.kind,
            reason=error.reason,
            worker=self._worker,
            event_id=_bounded(account.event_id),
            workflow_id=_bounded(account.workflow_id),
            node=_bounded(error.node),
            fingerprint=error.fingerprint,
            error_type=error.type,
            message=error.message,
            attempts=account.attempts,
            redrive_count=account.redrive_count,
            graph_version=None if graph is None else graph.version,
        )


def _bounded(name: str | None) -> str | None:
    """Return a name that a producer chose, cut: notices are kept in memory. [P11]."""
    return None if name is None else readable(name, limit=_MOST_CHARS)
