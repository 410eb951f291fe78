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
        writes = (f"-XX:ArchiveClassesAtExit={made}",)
        with LocalBroker(jvm=writes, start_timeout=_WITHIN, stop_timeout=_WITHIN) as broker:
            broker.stop()
        # Java machines other than HotSpot know no such option, and pass it by.
        if made.exists():
            made.rename(archive)
