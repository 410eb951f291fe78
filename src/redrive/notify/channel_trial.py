"""A test message to each channel, once, all at the same time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from redrive.errors import MissingExtraError, NotifyError, SettingsError
from redrive.notify.channels import AppriseChannel
from redrive.notify.message import Message, MessageLevel

__all__ = ["ChannelTrial", "try_channels"]

_MESSAGE = Message(
    "redrive: a test message",
    "This channel gets messages about dead letters.\n\nList them with: redrive dlq groups",
    MessageLevel.INFO,
)


@dataclass(frozen=True, slots=True)
class ChannelTrial:
    """What came of one channel: its service, and why it did not take the message, if so."""

    service: str
    error: str | None


def try_channels(urls: Mapping[str, str], *, limit_s: float) -> dict[str, ChannelTrial]:
    """Send a test message to each URL, by name; each may take `limit_s` seconds.

    Raises:
        MissingExtraError: apprise is not installed.
    """
    sending = [_Sending(name, url) for name, url in urls.items()]
    for one in sending:
        one.start()
    return {one.name: one.trial(limit_s) for one in sending}


class _Sending:
    """One message on its way; on a thread that may be left to itself."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._error: str | None = None
        self._service = ""
        self._channel: AppriseChannel | None = None
        try:
            self._channel = AppriseChannel(name, url)
            self._service = self._channel.service
        except MissingExtraError:
            raise
        except SettingsError as error:
            self._error = str(error)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def trial(self, limit_s: float) -> ChannelTrial:
        self._thread.join(limit_s)
        late = f"no answer within {limit_s:g} s" if self._thread.is_alive() else None
        return ChannelTrial(self._service, late or self._error)

    def _run(self) -> None:
        if self._channel is None:
            return
        try:
            self._channel.send(_MESSAGE)
        except NotifyError as error:
            self._error = str(error)
