"""What graphs, parsers, validation and the operating system raise; each error is really caused."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict
from urllib.error import HTTPError
from urllib.request import urlopen

from langchain_core import exceptions as langchain
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langgraph import errors as langgraph
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, TypeAdapter
from tests.unit.real_errors.conftest import HOST, IMPATIENCE_S, PATIENCE_S, Row, Service

from redrive.retry import Kind


class _State(TypedDict):
    at: int


class _Order(BaseModel):
    count: int


def _graph(node: Callable[[_State], object], **options: object) -> Callable[[Service], None]:
    def fail(_service: Service) -> None:
        graph = StateGraph(_State)
        graph.add_node("node", node, **options)  # type: ignore[call-overload] # the row's options
        graph.add_edge(START, "node")
        graph.add_conditional_edges("node", lambda _state: "node", {"node": "node", "end": END})
        asyncio.run(graph.compile().ainvoke({"at": 0}, {"recursion_limit": 3}))

    return fail


def _two_write_the_same(_service: Service) -> None:
    graph = StateGraph(_State)
    for name in ("one", "other"):
        graph.add_node(name, lambda state: {"at": state["at"] + 1})
        graph.add_edge(START, name)
    graph.compile().invoke({"at": 0})


async def _stays(_state: _State) -> object:
    return await asyncio.Event().wait()


def _fails_as_its_service(_state: _State) -> object:
    raise ConnectionResetError(errno.ECONNRESET, "told")


def _raises(error: Exception) -> Callable[[Service], object]:
    def fail(_service: Service) -> object:
        raise error

    return fail


GRAPHS = [
    Row("langgraph", "goes-round", _graph(lambda state: {"at": state["at"]}), Kind.PERMANENT),
    Row("langgraph", "no-state", _graph(lambda _state: "text"), Kind.PERMANENT),
    Row("langgraph", "two-write-the-same", _two_write_the_same, Kind.PERMANENT),
    Row("langgraph", "no-input", _raises(langgraph.EmptyInputError("x")), Kind.PERMANENT),
    Row("langgraph", "node-timeout", _graph(_stays, timeout=IMPATIENCE_S), Kind.TIMEOUT),
    Row(
        "langgraph",
        "node-fails",
        _graph(_fails_as_its_service),
        Kind.TRANSIENT,
        raised_by=("builtins",),
    ),
    Row("langgraph", "drained", _raises(langgraph.GraphDrained("stop")), Kind.TRANSIENT),
    Row("langgraph", "interrupt", _raises(langgraph.GraphInterrupt(())), Kind.PERMANENT),
    Row("langgraph", "node-cancelled", _raises(langgraph.NodeCancelledError("n")), Kind.UNKNOWN),
    Row("langchain_core", "rate", _raises(langchain.ModelRateLimitError("x")), Kind.RATE_LIMITED),
    Row("langchain_core", "timeout", _raises(langchain.ModelTimeoutError("x")), Kind.TIMEOUT),
    Row(
        "langchain_core", "connection", _raises(langchain.ModelConnectionError("x")), Kind.TRANSIENT
    ),
    Row("langchain_core", "server", _raises(langchain.ModelAPIError("x")), Kind.TRANSIENT),
    Row(
        "langchain_core", "login", _raises(langchain.ModelAuthenticationError("x")), Kind.PERMANENT
    ),
    Row("langchain_core", "overflow", _raises(langchain.ContextOverflowError("x")), Kind.PERMANENT),
    Row("langchain_core", "refusal", _raises(langchain.ModelRefusalError("x")), Kind.PERMANENT),
    # What the model wrote does not parse: it may write better, once.
    Row("langchain_core", "not-json", lambda _: JsonOutputParser().invoke("no"), Kind.UNKNOWN),
    Row(
        "langchain_core",
        "not-the-shape",
        lambda _: PydanticOutputParser(pydantic_object=_Order).invoke('{"count": "many"}'),
        Kind.UNKNOWN,
    ),
    Row(
        "pydantic",
        "model",
        lambda _: _Order.model_validate({"count": "many"}),
        Kind.PERMANENT,
        raised_by=("pydantic_core",),
    ),
    Row(
        "pydantic",
        "json",
        lambda _: TypeAdapter(int).validate_json("{"),
        Kind.PERMANENT,
        raised_by=("pydantic_core",),
    ),
]


def _in_a_folder(act: Callable[[Path], object]) -> Callable[[Service], object]:
    def fail(_service: Service) -> object:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "file"
            file.write_text("x", encoding="utf-8")
            return act(file)

    return fail


def _loop(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(link)
    link.read_bytes()


def _too_many_files(file: Path) -> None:
    with _no_more_files(), file.open():
        pass


@contextmanager
def _no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _full_disk(_service: Service) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        os.write(full, b"x")
    finally:
        os.close(full)


def _broken_pipe(_service: Service) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        os.write(writer, b"x")
    finally:
        os.close(writer)


def _pipe_that_is_empty(_service: Service) -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, False)
        os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def _address_of_another(_service: Service) -> None:
    with closing(socket.socket()) as listener:
        # Of the block that is kept for documents.
        listener.bind(("192.0.2.1", 0))


def _address_in_use(service: Service) -> None:
    with closing(socket.socket()) as second:
        second.bind((HOST, service.port))


def _reset(_service: Service) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.send(b"unread")
        right.send(b"x")
        right.close()
        left.recv(1)
        left.recv(1)


def _no_data_in_time(_service: Service) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.settimeout(IMPATIENCE_S)
        left.recv(1)


def _not_connected(_service: Service) -> None:
    with closing(socket.socket()) as alone:
        alone.getpeername()


def _too_long(_service: Service) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.sendto(b"x" * 70_000, (HOST, 9))


def _tls(port: int) -> None:
    context = ssl.create_default_context()
    with (
        socket.create_connection((HOST, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=HOST),
    ):
        pass


async def _never() -> None:
    async with asyncio.timeout(0.01):
        await asyncio.Event().wait()


async def _cut_stream(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"x")
        await reader.readexactly(10)
    finally:
        writer.close()


def _fetch(url: str) -> None:
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - the service's own URL
            answer.read()
    except HTTPError as error:
        # It is the answer too.
        error.close()
        raise


def _child(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)


def _child_that_stays(_service: Service) -> None:
    code = "import signal; signal.pause()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=IMPATIENCE_S)


def _system(
    case: str,
    fail: Callable[[Service], object],
    kind: Kind,
    package: str = "builtins",
    wait_s: float | None = None,
) -> Row:
    return Row("python", case, fail, kind, wait_s, raised_by=(package,))


SYSTEM = [
    _system("ENOENT", lambda _: Path("/nowhere/file").read_bytes(), Kind.PERMANENT),
    _system("EISDIR", lambda _: Path("/").write_bytes(b""), Kind.PERMANENT),
    _system("ENOTDIR", _in_a_folder(lambda file: (file / "x").read_bytes()), Kind.PERMANENT),
    _system("EEXIST", _in_a_folder(lambda file: file.mkdir()), Kind.PERMANENT),
    _system("ENOTEMPTY", _in_a_folder(lambda file: file.parent.rmdir()), Kind.PERMANENT),
    _system("ENAMETOOLONG", lambda _: Path("/" + "x" * 300).read_bytes(), Kind.PERMANENT),
    _system("ELOOP", _in_a_folder(_loop), Kind.PERMANENT),
    _system("EMFILE", _in_a_folder(_too_many_files), Kind.TRANSIENT),
    _system("ENOSPC", _full_disk, Kind.UNKNOWN),
    _system("EBADF", lambda _: os.close(-1), Kind.UNKNOWN),
    _system("EPIPE", _broken_pipe, Kind.TRANSIENT),
    _system("EAGAIN", _pipe_that_is_empty, Kind.TRANSIENT),
    _system("ECHILD", lambda _: os.waitpid(os.getpid(), 0), Kind.PERMANENT),
    _system("ESRCH", lambda _: os.kill(2**22 + 1, 0), Kind.PERMANENT),
    _system("EADDRINUSE", _address_in_use, Kind.TRANSIENT),
    _system("EADDRNOTAVAIL", _address_of_another, Kind.TRANSIENT),
    _system(
        "ECONNREFUSED",
        lambda service: socket.create_connection((HOST, service.closed_port)),
        Kind.TRANSIENT,
    ),
    _system("ECONNRESET", _reset, Kind.TRANSIENT),
    _system("ENOTCONN", _not_connected, Kind.TRANSIENT),
    _system("EMSGSIZE", _too_long, Kind.PERMANENT),
    _system("socket-timeout", _no_data_in_time, Kind.TIMEOUT),
    _system(
        "no-such-name",
        lambda _: socket.getaddrinfo("name", 80, flags=socket.AI_NUMERICHOST),
        Kind.TRANSIENT,
        "socket",
    ),
    _system("tls-self-signed", lambda service: _tls(service.tls_port), Kind.PERMANENT, "ssl"),
    _system("tls-broken-off", lambda service: _tls(service.slamming_port), Kind.TRANSIENT, "ssl"),
    _system("tls-not-spoken", lambda service: _tls(service.port), Kind.UNKNOWN, "ssl"),
    _system(
        "urllib-503",
        lambda service: _fetch(service.answers_with(503, {"Retry-After": "7"})),
        Kind.TRANSIENT,
        "urllib",
        7.0,
    ),
    _system("urllib-refused", lambda service: _fetch(service.refuses()), Kind.TRANSIENT, "urllib"),
    _system(
        "urllib-cut",
        lambda service: _fetch(service.cuts_its_answer()),
        Kind.TRANSIENT,
        "http",
    ),
    _system("asyncio-timeout", lambda _: asyncio.run(_never()), Kind.TIMEOUT),
    _system(
        "asyncio-cut",
        lambda service: asyncio.run(_cut_stream(service.slamming_port)),
        Kind.TRANSIENT,
        "asyncio",
    ),
    _system(
        "child-timeout",
        _child_that_stays,
        Kind.TIMEOUT,
        "subprocess",
    ),
    _system("child-failed", lambda _: _child("exit(1)"), Kind.UNKNOWN, "subprocess"),
    _system(
        "no-such-program",
        lambda _: subprocess.run(["/nowhere/program"], check=True),
        Kind.PERMANENT,
    ),
]

ROWS = [*GRAPHS, *SYSTEM]
