"""Messages between a parent and its template process: JSON over a socket, with file descriptors."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping, Sequence

__all__ = ["receive_message", "send_message"]

_LENGTH = struct.Struct("!I")
_MOST_DESCRIPTORS = 8


def send_message(
    connection: socket.socket, message: Mapping[str, object], descriptors: Sequence[int] = ()
) -> None:
    """Send one message; the other side gets copies of the descriptors.

    Raises:
        OSError: The other side has gone, or the socket's timeout is over.
    """
    body = json.dumps(message).encode()
    header = _LENGTH.pack(len(body))
    if descriptors:
        socket.send_fds(connection, [header], descriptors)
    else:
        connection.sendall(header)
    connection.sendall(body)


def receive_message(connection: socket.socket) -> tuple[dict[str, object], list[int]]:
    """Return the next message and the descriptors that came with it.

    Raises:
        EOFError: The other side has gone.
        OSError: The connection broke, or the socket's timeout is over.
    """
    header, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, _MOST_DESCRIPTORS)
    header += _read(connection, _LENGTH.size - len(header))
    (length,) = _LENGTH.unpack(header)
    message: dict[str, object] = json.loads(_read(connection, length))
    return message, list(descriptors)


def _read(connection: socket.socket, length: int) -> bytes:
    parts: list[bytes] = []
    while length:
        part = connection.recv(length)
        if not part:
            raise EOFError("the other side of the connection has gone")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
