"""The notifier: takes notices from any thread, decides on one of its own, hands messages on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import structlog

from redrive.clock import Clock
from redrive.notify.digest import Digest
from redrive.notify.hook import Hook
from redrive.notify.inbox import Inbox
from redrive.notify.message import Lost
from redrive.notify.notice import Alarm, LetterNotice
from redrive.notify.reports import Report
from redrive.notify.sender import Sender
from redrive.notify.wording import Wording

__all__ = ["Notifier"]

log = structlog.get_logger("redrive.notify")

_LEAST_WAIT_S = 0.01


class Notifier:
    """Tells people of letters and trouble. Offering takes constant time, and waits for nobody.

    Args:
        digest: Decides who is told of what, and when.
        wording: Puts it into words.
        senders: The channels.
        hook: The user's own function, if there is one.
        clock: For the windows.
    """

    def __init__(
        self,
        digest: Digest,
        wording: Wording,
        senders: Sequence[Sender],
        *,
        hook: Hook | None = None,
        clock: Clock,
    ) -> None:
        self._digest = digest
        self._wording = wording
        self._senders = {sender.name: sender for sender in senders}
        self._hook = hook
        self._clock = clock
        self._inbox = Inbox()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        for part in self._parts():
            part.start()
        self._thread.start()

    def letter(self, notice: LetterNotice) -> None:
        """Tell of a letter that is stored."""
        if self._hook is not None:
            self._hook.offer(notice)
        if self._senders:
            self._inbox.letter(notice)

    def alarm(self, alarm: Alarm) -> None:
        """Tell of trouble."""
        if self._senders:
            self._inbox.alarm(alarm)

    def close(self) -> None:
        """Tell what was not told yet, and end; returns at once."""
        self._closing = True
        self._inbox.wake()

    @property
    def ended(self) -> bool:
        """Whether all is told, after `close`."""
        idle = all(part.idle for part in self._parts())
        return idle and not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for the end, and log what nobody could be told in that time."""
        deadline = self._clock.monotonic() + timeout_s
        self._thread.join(timeout_s)
        left = Lost()
        for sender in self._senders.values():
            left += sender.join(max(deadline - self._clock.monotonic(), 0.0))
        if left:
            log.warning("notify.left_untold", messages=left.messages, letters=left.failures)
        if self._hook is not None:
            unheard = self._hook.join(max(deadline - self._clock.monotonic(), 0.0))
            if unheard or self._hook.dropped or self._hook.failed:
                log.warning(
                    "notify.hook_missed",
                    waiting=unheard,
                    dropped=self._hook.dropped,
                    failed=self._hook.failed,
                )

    def _parts(self) -> Iterator[Sender | Hook]:
        yield from self._senders.values()
        if self._hook is not None:
            yield self._hook

    def _run(self) -> None:
        while not self._closing:
            self._turn()
            due = self._digest.next_due
            wait_s = None if due is None else max(due - self._clock.monotonic(), _LEAST_WAIT_S)
            self._inbox.wait(wait_s)
        self._turn()
        try:
            self._say(self._digest.flush())
        finally:
            for part in self._parts():
                part.close()

    def _turn(self) -> None:
        try:
            now = self._clock.monotonic()
            self._say(self._digest.due(now))
            taken = self._inbox.take()
            self._say(self._digest.take(taken.causes, now))
            if taken.mixed is not None:
                self._say(self._digest.take_mixed(taken.mixed, now))
            for alarms in taken.alarms:
                self._say(self._digest.alarm(alarms, now))
        except Exception:
            # A bug of ours: it costs what was in hand, never what comes.
            log.exception("notify.broken")

    def _say(self, reports: Sequence[Report]) -> None:
        for report in reports:
            self._senders[report.channel].offer(self._wording.message(report))
