"""From the settings `notify.*` to a notifier."""

from __future__ import annotations

from redrive.clock import Clock
from redrive.notify.channels import AppriseChannel
from redrive.notify.digest import Digest
from redrive.notify.hook import Hook, OnDeadLetter
from redrive.notify.message import Message
from redrive.notify.notifier import Notifier
from redrive.notify.notify_settings import NotifySettings
from redrive.notify.sender import Sender, Sink
from redrive.notify.wording import Wording
from redrive.telemetry.redactor import Redactor

__all__ = ["build_notifier"]


def build_notifier(
    settings: NotifySettings,
    *,
    redactor: Redactor,
    clock: Clock,
    hook: OnDeadLetter | None = None,
    lazy: bool = False,
) -> Notifier | None:
    """Put a notifier together, not started yet; None if nobody is to be told of anything.

    Args:
        settings: Channels and rules.
        redactor: Masks secrets in messages.
        clock: For the windows, and the times in messages.
        hook: A function that is called with each letter.
        lazy: Channels are opened on the threads that send, when something is to be sent.

    Raises:
        SettingsError: A URL names no service, or the hook cannot be called; not if `lazy`.
        MissingExtraError: apprise is not installed; as above.
    """
    if not settings.urls and hook is None:
        return None
    return Notifier(
        Digest(
            settings.routing(),
            alarms=settings.alarm_channels,
            window_s=settings.window.total_seconds(),
            many_letters=settings.many_letters,
        ),
        Wording(redactor, since=clock.now(), window=settings.window),
        [
            Sender(name, sink, limit_s=settings.timeout.total_seconds(), clock=clock)
            for name, sink in _sinks(settings, lazy=lazy).items()
        ],
        hook=None if hook is None else Hook(hook),
        clock=clock,
    )


def _sinks(settings: NotifySettings, *, lazy: bool) -> dict[str, Sink]:
    kind = _Lazy if lazy else AppriseChannel
    return {name: kind(name, settings.url(name)) for name in settings.urls}


class _Lazy:
    """A channel that is opened when it is first needed."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url
        self._channel: AppriseChannel | None = None

    def send(self, message: Message) -> None:
        if self._channel is None:
            self._channel = AppriseChannel(self._name, self._url)
        self._channel.send(message)
