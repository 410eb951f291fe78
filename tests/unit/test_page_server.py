"""The server of figures and health: pages, and nothing that hurts it."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from http import HTTPStatus

import pytest
from structlog.testing import capture_logs

from redrive.telemetry.server import Answer, PageServer
from redrive.testing.worker_process import wait_until


def broken(_: str) -> Answer:
    raise ZeroDivisionError


PAGES = {
    "/said": lambda accept: Answer(accept.encode(), "text/x", HTTPStatus.ACCEPTED),
    "/broken": broken,
}


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        free = int(listening.getsockname()[1])
    server = PageServer("127.0.0.1", free, PAGES)
    yield free
    server.close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Accept": "text/x"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.getheader("Content-Type"), body


def test_a_page_is_told_what_is_accepted_and_its_answer_goes_out(port: int) -> None:
    assert ask(port, "/said?x=1") == (202, "text/x", b"text/x")
    assert ask(port, "/said", "HEAD") == (202, "text/x", b"")


def test_another_path_names_those_that_are_there(port: int) -> None:
    status, _, body = ask(port, "/")

    assert (status, body) == (404, b"there is /broken, /said\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(port: int, method: str) -> None:
    status, _, _ = ask(port, "/said", method)

    assert status == 501


def test_a_page_that_raises_is_a_500_and_told_in_the_log(port: int) -> None:
    with capture_logs() as logs:
        status, _, body = ask(port, "/broken")

    assert (status, body) == (500, b"failed: see the log\n")
    assert [line["event"] for line in logs] == ["metrics.page_failed"]


def is_hung_up_on(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def hung_up(connections: Iterable[socket.socket]) -> int:
    return sum(is_hung_up_on(connection) for connection in connections)


def test_those_who_connect_and_say_nothing_take_no_more_than_the_places_there_are(
    port: int,
) -> None:
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(40)
        ]
        wait_until(lambda: hung_up(silent) >= 8, timeout_s=4, what="some are hung up on")
        at_once = hung_up(silent)

    assert at_once == 8
    # The server sees one after the other that they have gone, and hangs up on others until then.
    wait_until(lambda: answers(port), timeout_s=10, what="there is a place again")


def answers(port: int) -> bool:
    try:
        return ask(port, "/said")[0] == 202
    except OSError:
        return False


@pytest.mark.invariant("P7", "P11")
def test_those_who_ask_slowly_keep_no_probe_from_its_answer(port: int) -> None:
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(64)
        ]
        for connection in slow:
            with contextlib.suppress(OSError):  # its place is another's by now
                connection.sendall(b"GET /said HTTP/1.0\r\nX: ")

        statuses = [ask(port, "/said")[0] for _ in range(40)]

    assert statuses == [202] * 40


@pytest.mark.invariant("P11")
def test_a_request_that_drips_in_is_ended_at_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        free = int(listening.getsockname()[1])
    server = PageServer("127.0.0.1", free, PAGES, request_s=0.5)
    try:
        with socket.create_connection(("127.0.0.1", free), timeout=10) as slow:
            slow.sendall(b"GET /said HTTP/1.0\r\nX: ")

            def is_ended() -> bool:
                with contextlib.suppress(OSError):
                    slow.settimeout(10)
                    slow.sendall(b"x")
                    return is_hung_up_on(slow)
                return True

            wait_until(is_ended, timeout_s=10, what="it is hung up on while it sends")
    finally:
        server.close()


def test_those_who_say_nothing_are_hung_up_on_after_a_while(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
        assert silent.recv(1) == b""


def test_a_closed_server_leaves_its_port_to_the_next(port: int) -> None:
    with pytest.raises(OSError, match="in use"):
        PageServer("127.0.0.1", port, PAGES)
