"""Channels by URL: apprise knows how to reach a hundred services. The one file that imports it.

A channel's URL is a secret: it is in no text that leaves this file, nor is what apprise says of
it. [P15]
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from redrive.errors import MissingExtraError, NotifyError, SettingsError
from redrive.notify.message import Message, MessageLevel
from redrive.telemetry.redactor import BUILT_IN

if TYPE_CHECKING:
    from apprise import AppriseAsset, NotifyBase, NotifyType

__all__ = ["AppriseChannel"]

_MARK = "[redacted:url]"
_LEAST_SECRET_CHARS = 4
_PARTS = re.compile(r"[^A-Za-z0-9_.~%+-]+")


class AppriseChannel:
    """One URL. Any thread may send; each send has a plugin of apprise's for itself.

    Raises:
        SettingsError: Apprise does not know this URL.
        MissingExtraError: apprise is not installed.
    """

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._lock = threading.Lock()
        # They keep to the pace that a service allows, so they are used again.
        self._idle = [self._made()]
        self.service = str(self._idle[0].service_name)
        """What the service is called, for people."""

    def send(self, message: Message) -> None:
        """Deliver the message.

        Raises:
            NotifyError: It was not delivered; says why, as far as apprise does.
        """
        from apprise import NotifyFormat  # noqa: PLC0415 - only where there are channels

        with self._lock:
            plugin = self._idle.pop() if self._idle else None
        plugin = plugin or self._made()
        with _overheard() as heard:
            try:
                sent = plugin.notify(
                    title=message.title,
                    body=message.body,
                    notify_type=_notify_type(message.level),
                    body_format=NotifyFormat.TEXT,
                )
            except Exception as error:  # noqa: BLE001 - a hundred plugins: anything may come
                # Not `from error`: its text may hold the URL. [P15]
                raise NotifyError(f"{self.service}: {self._safe(repr(error))}") from None
        with self._lock:
            self._idle.append(plugin)
        if not sent:
            why = " ".join(map(self._safe, heard)) or "it was not taken"
            raise NotifyError(f"{self.service}: {why}")

    def _made(self) -> NotifyBase:
        try:
            from apprise import Apprise  # noqa: PLC0415 - as above
        except ModuleNotFoundError as error:
            raise MissingExtraError(module="apprise", extra="notify") from error
        with _overheard():
            made: NotifyBase | None = Apprise.instantiate(self._url, asset=_asset())
        if made is None:
            raise SettingsError(
                f"notify.urls.{self.name}: Apprise does not know this URL, or a part of it is "
                "missing: see the service's page in the documentation of Apprise"
            )
        return made

    def _safe(self, text: str) -> str:
        """Return what apprise said without any part of the URL."""
        rest = self._url.partition("://")[2]
        parts = {part for part in _PARTS.split(rest) if len(part) >= _LEAST_SECRET_CHARS}
        known = sorted(parts | {unquote(part) for part in parts} | {rest}, key=len, reverse=True)
        pattern = "|".join(re.escape(part) for part in known if part)
        masked = re.sub(pattern, _MARK, text, flags=re.IGNORECASE) if pattern else text
        return BUILT_IN.mask(masked)


def _asset() -> AppriseAsset:
    from apprise import AppriseAsset, PersistentStoreMode  # noqa: PLC0415 - as above

    return AppriseAsset(
        app_id="redrive",
        app_desc="redrive",
        app_url="",
        # Else a message shows pictures that lie on a foreign host.
        image_url_mask="",
        image_url_logo="",
        # Nothing of it on the disk.
        storage_mode=PersistentStoreMode.MEMORY,
    )


def _notify_type(level: MessageLevel) -> NotifyType:
    from apprise import NotifyType  # noqa: PLC0415 - as above

    return {
        MessageLevel.INFO: NotifyType.INFO,
        MessageLevel.WARNING: NotifyType.WARNING,
        MessageLevel.FAILURE: NotifyType.FAILURE,
    }[level]


class _Overhearing(logging.Filter):
    """Keeps what apprise logs on a thread of ours from the log, and gives it to who sends."""

    def __init__(self) -> None:
        super().__init__()
        self.local = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        heard: list[str] | None = getattr(self.local, "heard", None)
        if heard is None:
            return True
        if record.levelno >= logging.WARNING:
            heard.append(record.getMessage())
        return False


_OVERHEARING = _Overhearing()


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Give what apprise warns of, on this thread, within the block."""
    heard: list[str] = []
    said = logging.getLogger("apprise")
    said.addFilter(_OVERHEARING)
    if not said.isEnabledFor(logging.WARNING):
        said.setLevel(logging.WARNING)
    _OVERHEARING.local.heard = heard
    try:
        yield heard
    finally:
        _OVERHEARING.local.heard = None
