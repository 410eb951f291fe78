"""What people call a worker that has no `worker.id`."""

from __future__ import annotations

import socket

__all__ = ["unnamed"]


def unnamed(pid: int) -> str:
    """Return the name of a worker of this host, by its process id."""
    return f"{socket.gethostname()}:{pid}"
