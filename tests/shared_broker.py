"""One broker for all test processes of a run: who needs it first starts it, who started it ends it.

The processes of a run (pytest-xdist) know nothing of each other but a folder that they share.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from redrive.testing.broker import LocalBroker
from redrive.testing.class_archive import archive_classes
from redrive.testing.created_topics import Kafka, NamedBroker

__all__ = ["shared_broker"]


@contextmanager
def shared_broker(folder: Path) -> Iterator[Kafka]:
    """Yield the broker of this folder; the process that started it waits for all others to end.

    Args:
        folder: The same one for all processes of a run, and for no others.
    """
    own: LocalBroker | None = None
    address = folder / "broker.address"
    with (folder / "broker.users").open("ab") as users:
        try:
            with _alone(folder):
                if not address.exists():
                    archive_classes()
                    own = LocalBroker()
                    own.start()
                    address.write_text(own.bootstrap_servers)
                # A lock ends with its process, however that ends.
                fcntl.flock(users, fcntl.LOCK_SH)
                servers = address.read_text()
            yield own or NamedBroker(servers)
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            if own is not None:
                _end(own, folder, users)


def _end(own: LocalBroker, folder: Path, users: IO[bytes]) -> None:
    # Others may come while we wait for those that are there: they find it as long as it lives.
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        with _alone(folder):
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            (folder / "broker.address").unlink(missing_ok=True)
            own.close()
            return


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "broker.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
