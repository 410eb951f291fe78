"""What HTTP clients raise, against a service on this machine that fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType

import aiohttp
import httpx
import httpx2
import requests
from tests.unit.real_errors.conftest import (
    IMPATIENCE_S,
    PATIENCE_S,
    Row,
    Service,
    fault_rows,
    status_rows,
)

from redrive.retry import Kind


def _httpx(url: str, patience_s: float) -> None:
    httpx.get(url, timeout=patience_s).raise_for_status()


def _httpx2(url: str, patience_s: float) -> None:
    httpx2.get(url, timeout=patience_s).raise_for_status()


def _httpx_async(url: str, patience_s: float) -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(timeout=patience_s) as client:
            (await client.get(url)).raise_for_status()

    asyncio.run(ask())


def _httpx2_async(url: str, patience_s: float) -> None:
    async def ask() -> None:
        async with httpx2.AsyncClient(timeout=patience_s) as client:
            (await client.get(url)).raise_for_status()

    asyncio.run(ask())


def _requests(url: str, patience_s: float) -> None:
    requests.get(url, timeout=patience_s).raise_for_status()


def _aiohttp(url: str, patience_s: float) -> None:
    async def ask() -> None:
        timeout = aiohttp.ClientTimeout(sock_connect=patience_s, sock_read=patience_s)
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            await response.json()

    asyncio.run(ask())


def _aiohttp_in_all(service: Service) -> None:
    async def ask() -> None:
        timeout = aiohttp.ClientTimeout(total=IMPATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await session.get(service.stays_silent())

    asyncio.run(ask())


def _aiohttp_websocket(service: Service) -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            await session.ws_connect(service.answers_with(503))

    asyncio.run(ask())


def _redirects(service: Service) -> str:
    return service.answers_with(302, {"Location": "?again"})


def _is_not_zipped(service: Service) -> str:
    return service.answers_with(200, {"Content-Encoding": "gzip"}, b"plain")


def _wait_for_the_pool(package: ModuleType, url: str) -> None:
    limits = package.Limits(max_connections=1)
    timeout = package.Timeout(PATIENCE_S, pool=IMPATIENCE_S)
    with package.Client(limits=limits, timeout=timeout) as client, client.stream("GET", url):
        client.get(url)


def _rows_of_httpx(package: ModuleType) -> list[Row]:
    def row(case: str, kind: Kind, url_of: Callable[[Service], str], **options: object) -> Row:
        def fail(service: Service) -> object:
            return package.get(url_of(service), **options).json()

        return Row(package.__name__, case, fail, kind)

    def wait_for_the_pool(service: Service) -> None:
        _wait_for_the_pool(package, service.answers_with(200))

    def ask_a_proxy(service: Service) -> object:
        return package.get("http://127.0.0.1/", proxy=service.refuses())

    return [
        row("unsupported-protocol", Kind.PERMANENT, lambda _service: "ftp://127.0.0.1/"),
        row("invalid-url", Kind.PERMANENT, lambda _service: "http://127.0.0.1:port/"),
        row("illegal-header", Kind.PERMANENT, Service.stays_silent, headers={"a": "b\nc"}),
        row("redirects", Kind.PERMANENT, _redirects, follow_redirects=True),
        row("decoding", Kind.PERMANENT, _is_not_zipped),
        Row(package.__name__, "pool", wait_for_the_pool, Kind.TIMEOUT),
        Row(package.__name__, "proxy-refused", ask_a_proxy, Kind.TRANSIENT),
    ]


_REQUESTS = [
    ("invalid-url", Kind.PERMANENT, lambda _: requests.get("http://", timeout=1)),
    ("missing-schema", Kind.PERMANENT, lambda _: requests.get("127.0.0.1", timeout=1)),
    ("invalid-schema", Kind.PERMANENT, lambda _: requests.get("ftp://127.0.0.1", timeout=1)),
    (
        "illegal-header",
        Kind.PERMANENT,
        lambda service: requests.get(service.refuses(), headers={"a": "b\nc"}, timeout=1),
    ),
    ("redirects", Kind.PERMANENT, lambda service: requests.get(_redirects(service), timeout=5)),
    ("decoding", Kind.PERMANENT, lambda service: requests.get(_is_not_zipped(service), timeout=5)),
    (
        # It may be a page of a proxy, or a body cut short.
        "json",
        Kind.UNKNOWN,
        lambda service: requests.get(service.answers_with(200, {}, b"<p>"), timeout=5).json(),
    ),
    (
        "proxy-refused",
        Kind.TRANSIENT,
        lambda service: requests.get(
            "http://127.0.0.2/", proxies={"http": service.refuses()}, timeout=5
        ),
    ),
]

ROWS = [
    *status_rows("httpx", _httpx),
    *fault_rows("httpx", _httpx),
    *fault_rows("httpx", _httpx_async, mark="async-"),
    *_rows_of_httpx(httpx),
    *status_rows("httpx2", _httpx2),
    *fault_rows("httpx2", _httpx2),
    *fault_rows("httpx2", _httpx2_async, mark="async-"),
    *_rows_of_httpx(httpx2),
    *status_rows("requests", _requests),
    *fault_rows("requests", _requests),
    *(Row("requests", case, fail, kind) for case, kind, fail in _REQUESTS),
    *status_rows("aiohttp", _aiohttp),
    *fault_rows("aiohttp", _aiohttp),
    Row("aiohttp", "in-all", _aiohttp_in_all, Kind.TIMEOUT, raised_by=("builtins",)),
    Row("aiohttp", "websocket-503", _aiohttp_websocket, Kind.TRANSIENT),
    Row("aiohttp", "invalid-url", lambda _: _aiohttp("http://:80", 1), Kind.PERMANENT),
    Row("aiohttp", "not-http", lambda _: _aiohttp("ftp://127.0.0.1", 1), Kind.PERMANENT),
    Row("aiohttp", "redirects", lambda service: _aiohttp(_redirects(service), 5), Kind.PERMANENT),
    Row(
        "aiohttp", "decoding", lambda service: _aiohttp(_is_not_zipped(service), 5), Kind.TRANSIENT
    ),
    Row(
        "aiohttp",
        "not-json",
        lambda service: _aiohttp(service.answers_with(200, {"Content-Type": "text/html"}), 5),
        Kind.UNKNOWN,
    ),
]
