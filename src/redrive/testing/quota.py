"""Limits how fast clients may produce: a quota of the broker, set over the wire.

librdkafka's admin client cannot, and Kafka's own tool takes seconds to start.
"""

from __future__ import annotations

import socket
import struct

__all__ = ["limit_producers"]

_ALTER_CLIENT_QUOTAS = 49
_CALL_S = 10.0
_KEY = "producer_byte_rate"


def limit_producers(servers: str, client_id: str, bytes_per_s: float | None) -> None:
    """Give all producers of a `client.id` together so many bytes a second; None lifts the limit.

    Args:
        servers: The broker, `host:port`.
        client_id: Theirs.
        bytes_per_s: The broker delays its answers to who is faster.

    Raises:
        OSError: The broker cannot be reached, or refused.
    """
    remove = bytes_per_s is None
    entry = (
        _array(_text("client-id") + _text(client_id))
        + _array(_text(_KEY) + struct.pack(">d?", bytes_per_s or 0.0, remove))
    )  # fmt: skip
    body = _array(entry) + struct.pack(">?", False)  # noqa: FBT003 - not only to validate
    head = struct.pack(">hhi", _ALTER_CLIENT_QUOTAS, 0, 1) + _text("redrive-testing")
    host, _, port = servers.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_CALL_S) as broker:
        broker.sendall(struct.pack(">i", len(head + body)) + head + body)
        with broker.makefile("rb") as answers:
            (size,) = struct.unpack(">i", answers.read(4))
            answer = answers.read(size)
    # The request's number, how long we are throttled, how many entries; then the first one's error.
    _, _, entries, error = struct.unpack_from(">iiih", answer)
    if entries != 1 or error:
        raise OSError(f"the broker at {servers} did not set the quota: error {error}")


def _array(only: bytes) -> bytes:
    return struct.pack(">i", 1) + only


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()
