"""A proxy between clients and a broker: what passes can be cut, held, slowed, limited or lost.

Whoever connects to it reaches the broker by it only: where the broker tells clients its own
address, they are told the proxy's. Connections stay what they are, TCP; nothing is reordered, and
what was held arrives later, as after a network that was away.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import BinaryIO, Self

from redrive.clock import SYSTEM

__all__ = ["END_TXN", "PRODUCE", "Proxy", "Way"]

PRODUCE, END_TXN = 0, 26
"""Kafka's numbers of requests."""

_HEAD = struct.Struct(">i")
_LINK_BYTES = 512
"""A limited link takes pieces of its connections in turn."""
_RESET = struct.pack("ii", 1, 0)
"""Closing sends a reset, and drops what was not sent yet."""


class Way(Enum):
    """Which way bytes go."""

    TO_BROKER = "to_broker"
    TO_CLIENT = "to_client"


BOTH = frozenset(Way)


@dataclass(frozen=True, slots=True)
class _Traffic:
    held: frozenset[Way] = frozenset()
    refused: bool = False
    delay_s: float = 0.0
    slice_bytes: int | None = None
    bytes_per_s: float | None = None


class Proxy:
    """A broker by another address; `with Proxy(servers) as proxy` opens and closes it.

    It knows of Kafka that each message begins with its size, a request with its kind and number,
    an answer with the number of its request. May be told what to do from any thread.

    Args:
        servers: The broker, `host:port`. Need not listen yet.
    """

    def __init__(self, servers: str) -> None:
        host, _, port = servers.rpartition(":")
        self._broker = (host, int(port))
        self._listener = socket.create_server((host, 0))
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._traffic = _Traffic()
        self._free_at_s = dict.fromkeys(Way, 0.0)
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
        self._set(_Traffic(refused=True))
        self._close()

    def cut(self) -> None:
        """Close all connections and refuse new ones, until `mend`."""
        self._set(_Traffic(refused=True))
        self._close()

    def reset(self) -> None:
        """End all connections with a reset, what is under way included; new ones pass."""
        self._close(reset=True)

    def hold(self, *ways: Way) -> None:
        """Let nothing pass that goes one of these ways (both by default): a black hole.

        Connections stay open and new ones are taken; what is held passes after `mend`.
        """
        self._set(replace(self._traffic, held=frozenset(ways) or BOTH))

    def slow(self, *, delay_s: float = 0.0, slice_bytes: int | None = None) -> None:
        """Let each message wait, and arrive in pieces of so many bytes."""
        self._set(replace(self._traffic, delay_s=delay_s, slice_bytes=slice_bytes))

    def limit(self, bytes_per_s: float) -> None:
        """Let so many bytes pass in a second, each way, of all connections together."""
        self._set(replace(self._traffic, bytes_per_s=bytes_per_s))

    def lose_answer(self, kind: int, *, after: bytes = b"") -> None:
        """Lose the answer to the first request of a kind from the one on that holds these bytes.

        The broker has done what was asked; all connections are cut, and stay so until `mend`.
        """
        self._wanted = (kind, after)

    def mend(self) -> None:
        """Let all pass again."""
        self._wanted, self._armed = None, False
        self.lost.clear()
        self._free_at_s = dict.fromkeys(Way, 0.0)
        self._set(_Traffic())

    def _set(self, traffic: _Traffic) -> None:
        with self._changed:
            self._traffic = traffic
            self._changed.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._traffic.refused:
                    raise ConnectionRefusedError
                broker = socket.create_connection(self._broker)
            except OSError:
                client.close()
                continue
            with self._changed:
                self._open |= {client, broker}
            marked: set[bytes] = set()
            for carry, ends in ((self._ask, (client, broker)), (self._answer, (broker, client))):
                threading.Thread(target=carry, args=(*ends, marked), daemon=True).start()

    def _ask(self, client: socket.socket, broker: socket.socket, marked: set[bytes]) -> None:
        with client.makefile("rb") as requests, suppress(OSError):
            while message := _message(requests):
                if self._is_wanted(message):
                    marked.add(message[4:8])
                self._pass(broker, message, Way.TO_BROKER)
        self._close(client, broker)

    def _answer(self, broker: socket.socket, client: socket.socket, marked: set[bytes]) -> None:
        theirs, ours = (_as_told(*end) for end in (self._broker, self._listener.getsockname()))
        with broker.makefile("rb") as answers, suppress(OSError):
            while message := _message(answers):
                if message[:4] in marked:
                    self.lost.set()
                    self.cut()
                    return
                # The broker tells clients its own address.
                self._pass(client, message.replace(theirs, ours), Way.TO_CLIENT)
        self._close(client, broker)

    def _pass(self, end: socket.socket, message: bytes, way: Way) -> None:
        framed = _HEAD.pack(len(message)) + message
        size = _LINK_BYTES if self._traffic.bytes_per_s else self._traffic.slice_bytes
        for piece in _pieces(framed, size):
            if self._traffic.delay_s:
                SYSTEM.block(self._traffic.delay_s)
            self._take_its_time(len(piece), way)
            with self._changed:
                # A connection that was closed meanwhile waits for nothing.
                self._changed.wait_for(
                    lambda: way not in self._traffic.held or end not in self._open
                )
            end.sendall(piece)

    def _take_its_time(self, size: int, way: Way) -> None:
        """Wait until a limited link has carried so many bytes, after those of others."""
        with self._changed:
            if self._traffic.bytes_per_s is None:
                return
            begins_s = max(self._free_at_s[way], SYSTEM.monotonic())
            self._free_at_s[way] = ends_s = begins_s + size / self._traffic.bytes_per_s
            limited = self._traffic
            # Mended, it carries the rest at once.
            while self._traffic is limited and (left_s := ends_s - SYSTEM.monotonic()) > 0:
                self._changed.wait(left_s)

    def _is_wanted(self, request: bytes) -> bool:
        if self._wanted is None:
            return False
        kind, after = self._wanted
        self._armed = self._armed or after in request
        return self._armed and struct.unpack(">h", request[:2]) == (kind,)

    def _close(self, *ends: socket.socket, reset: bool = False) -> None:
        with self._changed:
            closed = self._open & set(ends) if ends else set(self._open)
            self._open -= closed
            self._changed.notify_all()
        for end in closed:
            with suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # Wakes the thread that reads there; its stream is what closes the socket at last.
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            end.close()


def _message(stream: BinaryIO) -> bytes:
    """Return the next message without its size; nothing at the end."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return b""
    (size,) = _HEAD.unpack(head)
    message = stream.read(size)
    return message if len(message) == size else b""


def _pieces(message: bytes, size: int | None) -> Iterator[bytes]:
    step = size or len(message)
    for start in range(0, len(message), step):
        yield message[start : start + step]


def _as_told(host: str, port: int) -> bytes:
    return host.encode() + struct.pack(">i", port)
