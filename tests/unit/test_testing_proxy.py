"""The proxy of the test kit, before a server that answers each message with itself."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from redrive.testing.proxy import END_TXN, PRODUCE, Proxy, Way
from redrive.testing.worker_process import wait_until

_API_VERSIONS = struct.pack(">h", 18)
SOON_S = 0.2
LATER_S = 10.0


class Mirror:
    """A server, and what it was told."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.servers = "{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                message = stream.read(struct.unpack(">i", head)[0])
                if message.startswith(_API_VERSIONS):
                    return  # a Kafka client still looks for a broker that had this port before
                self.told.append(message)
                client.sendall(head + message)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with closing(Mirror()) as made:
        yield made


@pytest.fixture
def proxy(mirror: Mirror) -> Iterator[Proxy]:
    with Proxy(mirror.servers) as made:
        yield made


def client_of(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    client = socket.create_connection((host, int(port)))
    client.settimeout(LATER_S)
    return client


def say(client: socket.socket, message: bytes) -> None:
    client.sendall(struct.pack(">i", len(message)) + message)


def hear(client: socket.socket, *, within_s: float = LATER_S) -> bytes | None:
    """Return the next message; None when there is none in time, nothing when it has ended."""
    client.settimeout(within_s)
    try:
        head = read(client, 4)
        return read(client, struct.unpack(">i", head)[0]) if head else b""
    except TimeoutError:
        return None


def read(client: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := client.recv(size - len(got))):
        got += more
    return got


def test_messages_pass_and_the_servers_address_becomes_the_proxys(
    mirror: Mirror, proxy: Proxy
) -> None:
    host, _, port = mirror.servers.rpartition(":")
    with client_of(proxy) as client:
        say(client, b"at " + host.encode() + struct.pack(">i", int(port)))

        heard = hear(client)

    ours = int(proxy.address.rpartition(":")[2])
    assert heard == b"at " + host.encode() + struct.pack(">i", ours)


def test_a_cut_ends_connections_and_refuses_new_ones_until_it_is_mended(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        say(client, b"first")
        assert hear(client) == b"first"

        proxy.cut()

        assert hear(client) == b""
    with client_of(proxy) as refused:
        assert hear(refused) == b""
    proxy.mend()
    with client_of(proxy) as client:
        say(client, b"again")
        assert hear(client) == b"again"


@pytest.mark.parametrize(
    ("way", "arrives"), [(Way.TO_BROKER, False), (Way.TO_CLIENT, True)], ids=["there", "back"]
)
def test_what_is_held_one_way_passes_once_it_is_mended(
    mirror: Mirror, proxy: Proxy, way: Way, *, arrives: bool
) -> None:
    with client_of(proxy) as client:
        proxy.hold(way)
        say(client, b"held")
        assert hear(client, within_s=SOON_S) is None
        assert mirror.told == ([b"held"] if arrives else [])

        proxy.mend()

        assert hear(client) == b"held"


def test_a_reset_is_seen_as_one_and_new_connections_pass(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        say(client, b"first")
        assert hear(client) == b"first"

        proxy.reset()

        with pytest.raises(ConnectionResetError):
            hear(client)
    with client_of(proxy) as client:
        say(client, b"again")
        assert hear(client) == b"again"


def test_a_slow_one_delivers_whole_messages_later(proxy: Proxy) -> None:
    proxy.slow(delay_s=0.02, slice_bytes=10)
    with client_of(proxy) as client:
        began = time.monotonic()
        say(client, b"x" * 96)

        assert hear(client) == b"x" * 96

    # Ten pieces there, and ten back.
    assert time.monotonic() - began >= 2 * 10 * 0.02


def test_a_limited_link_is_shared_by_its_connections(proxy: Proxy) -> None:
    proxy.limit(4_000)
    with client_of(proxy) as one, client_of(proxy) as other:
        began = time.monotonic()
        for client in (one, other):
            say(client, b"x" * 396)
        for client in (one, other):
            assert hear(client) == b"x" * 396

    # Two messages of 400 bytes there, at 4,000 bytes a second.
    assert time.monotonic() - began >= 0.2


def test_a_link_that_is_mended_carries_the_rest_at_once(mirror: Mirror, proxy: Proxy) -> None:
    proxy.limit(1)
    with client_of(proxy) as client:
        say(client, b"waits")
        assert hear(client, within_s=SOON_S) is None
        assert mirror.told == []

        proxy.mend()

        assert hear(client) == b"waits"


def test_only_the_answer_that_is_to_be_lost_is_lost(mirror: Mirror, proxy: Proxy) -> None:
    # The mirror sends back what it gets, so a request's number is what it begins with.
    other, wanted = (struct.pack(">hhhh", kind, 0, kind, 0) for kind in (PRODUCE, END_TXN))
    with client_of(proxy) as client:
        proxy.lose_answer(END_TXN)
        say(client, other)
        assert hear(client) == other

        say(client, wanted)

        assert hear(client) == b""
    wait_until(proxy.lost.is_set, timeout_s=LATER_S, what="a lost answer")
    assert mirror.told == [other, wanted]
