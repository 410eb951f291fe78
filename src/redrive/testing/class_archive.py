"""What a broker's JVM has loaded once is there for the next ones: a start costs little over half.

Java calls it class data sharing. Brokers use the archive wherever it is; who starts many makes it.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from redrive.testing.broker import LocalBroker
from redrive.testing.kafka_jars import class_archive

__all__ = ["archive_classes"]

_WITHIN = timedelta(minutes=3)
"""Writing takes seconds; on a busy machine minutes."""


def archive_classes() -> None:
    """Start and stop a broker for its classes, unless that was done for this Java (10 s, 49 MB).

    Raises:
        BrokerError: It did not start.
        SettingsError: Java is missing, or Maven when Kafka has to be fetched.
    """
    archive = class_archive()
    if archive.exists():
        return
    with tempfile.TemporaryDirectory(dir=archive.parent) as work:
        made = Path(work) / archive.name
        with _ArchivingBroker(made) as broker:
            broker.stop()
        # Java machines other than HotSpot know no such option, and pass it by.
        if made.exists():
            made.rename(archive)


class _ArchivingBroker(LocalBroker):
    """A broker whose JVM writes down, when it ends by itself, what it has loaded."""

    def __init__(self, archive: Path) -> None:
        super().__init__(start_timeout=_WITHIN, stop_timeout=_WITHIN)
        self._archive = archive

    def _class_options(self) -> list[str]:
        return [f"-XX:ArchiveClassesAtExit={self._archive}"]
