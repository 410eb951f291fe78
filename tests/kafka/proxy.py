"""A proxy between clients and a broker that can lose an answer: the broker did it, nobody hears."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import BinaryIO, Self

PRODUCE, END_TXN = 0, 26
"""Kafka's numbers of requests."""


class Proxy:
    """A broker by another address.

    It knows of Kafka that each message begins with its size, a request with its kind and number,
    an answer with the number of its request.
    """

    def __init__(self, servers: str) -> None:
        host, _, port = servers.rpartition(":")
        self._broker = (host, int(port))
        self._listener = socket.create_server((host, 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._wanted: tuple[int, bytes] | None = None
        self._armed = False
        self.lost = threading.Event()
        """Set once the answer was lost. Nothing passes then, until `mend`."""

    @property
    def address(self) -> str:
        """Where clients find it."""
        return "{}:{}".format(*self._listener.getsockname())

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def lose_answer(self, kind: int, *, after: bytes) -> None:
        """Lose the answer to the first request of a kind from the one on that holds these bytes."""
        self._wanted = (kind, after)

    def mend(self) -> None:
        """Let all pass again."""
        self._wanted, self._armed = None, False
        self.lost.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.lost.is_set():
                client.close()
                continue
            broker = socket.create_connection(self._broker)
            with self._lock:
                self._open |= {client, broker}
            marked: set[bytes] = set()
            for carry, ends in ((self._ask, (client, broker)), (self._answer, (broker, client))):
                threading.Thread(target=carry, args=(*ends, marked), daemon=True).start()

    def _ask(self, client: socket.socket, broker: socket.socket, marked: set[bytes]) -> None:
        with client.makefile("rb") as requests, suppress(OSError):
            while message := _message(requests):
                if self._is_wanted(message):
                    marked.add(message[4:8])
                _send(broker, message)
        self._cut(client, broker)

    def _answer(self, broker: socket.socket, client: socket.socket, marked: set[bytes]) -> None:
        theirs, ours = (_as_told(*end) for end in (self._broker, self._listener.getsockname()))
        with broker.makefile("rb") as answers, suppress(OSError):
            while message := _message(answers):
                if message[:4] in marked:
                    self.lost.set()
                    self._cut()
                    return
                # The broker tells clients its own address.
                _send(client, message.replace(theirs, ours))
        self._cut(client, broker)

    def _is_wanted(self, request: bytes) -> bool:
        if self._wanted is None:
            return False
        kind, after = self._wanted
        self._armed = self._armed or after in request
        return self._armed and struct.unpack(">h", request[:2]) == (kind,)

    def _cut(self, *ends: socket.socket) -> None:
        with self._lock:
            cut = self._open & set(ends) if ends else set(self._open)
            self._open -= cut
        for end in cut:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _message(stream: BinaryIO) -> bytes:
    """Return the next message without its size; nothing at the end."""
    head = stream.read(4)
    return stream.read(struct.unpack(">i", head)[0]) if len(head) == 4 else b""


def _send(end: socket.socket, message: bytes) -> None:
    end.sendall(struct.pack(">i", len(message)) + message)


def _as_told(host: str, port: int) -> bytes:
    return host.encode() + struct.pack(">i", port)
