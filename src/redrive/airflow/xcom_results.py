"""The one reader of results that all waiting tasks of a process share. No Airflow in here."""

from __future__ import annotations

import atexit
import os
import threading

from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.results import ResultReader

__all__ = ["shared_reader"]

_readers: dict[tuple[int, str], ResultReader] = {}
_lock = threading.Lock()


def shared_reader(settings: KafkaSettings) -> ResultReader:
    """Return this process's reader for these brokers, options and results topic."""
    # The process is part of the name: a fork inherits the reader, but not its thread.
    name = (os.getpid(), settings.model_dump_json())
    with _lock:
        if name not in _readers:
            _readers[name] = ResultReader(settings)
            atexit.register(_close, *name)
        return _readers[name]


def _close(pid: int, settings: str) -> None:
    if pid == os.getpid():
        _readers[pid, settings].close()
