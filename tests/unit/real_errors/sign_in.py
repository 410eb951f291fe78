"""Tokens that Google does not give, and proxies that let nobody through."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import ModuleType
from unittest import mock
from urllib.request import ProxyHandler, build_opener

import aiohttp
import anthropic
import httpx
import httpx2
import openai
import requests
from botocore.config import Config  # type: ignore[import-untyped] # it has none
from botocore.session import Session  # type: ignore[import-untyped] # it has none
from google.auth import _exponential_backoff, compute_engine
from google.auth.compute_engine import _metadata
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from google.oauth2 import credentials
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.unit.real_errors.conftest import PATIENCE_S, Row, Service, replying

from redrive.retry import Kind

# It refuses each connection; nothing listens there, and no row comes so far.
ELSEWHERE = "https://service.invalid/"


def _refresh(url: str) -> None:
    token = credentials.Credentials(  # type: ignore[no-untyped-call] # it has no types
        None,
        refresh_token="none",  # noqa: S106 - and there is none
        token_uri=f"{url}/token",
        client_id="c",
        client_secret="none",  # noqa: S106 - as above
    )
    # It waits between its own tries.
    with mock.patch.object(_exponential_backoff, "time"):
        token.refresh(Request())  # type: ignore[no-untyped-call] # as above


def _refresh_on_a_machine(url: str) -> None:
    with (
        mock.patch.object(_exponential_backoff, "time"),
        mock.patch.object(_metadata, "_GCE_METADATA_HOST", url.removeprefix("http://")),
    ):
        compute_engine.Credentials().refresh(Request())  # type: ignore[no-untyped-call] # as above


def _auth(
    case: str, status: int, body: object, kind: Kind, call: Callable[[str], None] = _refresh
) -> Row:
    text = body if isinstance(body, str) else json.dumps(body)

    def fail(service: Service) -> None:
        headers = {"Metadata-Flavor": "Google"}
        call(service.answers_with(status, headers, text.encode()))

    return Row("google.auth", case, fail, kind)


def _impersonated(status: int, name: str, kind: Kind) -> Row:
    # As google.auth.impersonated_credentials says it.
    answer = json.dumps({"error": {"code": status, "message": "told", "status": name}})

    def fail(_service: Service) -> None:
        raise RefreshError("Unable to acquire impersonated credentials", answer)  # type: ignore[no-untyped-call] # as above

    return Row("google.auth", f"impersonated-{status}", fail, kind)


OAUTH = {
    "invalid_grant": Kind.PERMANENT,
    "invalid_client": Kind.PERMANENT,
    "unauthorized_client": Kind.PERMANENT,
    "invalid_scope": Kind.PERMANENT,
    "access_denied": Kind.PERMANENT,
    "temporarily_unavailable": Kind.TRANSIENT,
    "internal_failure": Kind.TRANSIENT,
}

AUTH = [
    *(
        _auth(code, 400, {"error": code, "error_description": "told"}, kind)
        for code, kind in OAUTH.items()
    ),
    _auth("503", 503, {"error": "internal_failure"}, Kind.TRANSIENT),
    _auth("500", 500, {"error": "told"}, Kind.TRANSIENT),
    _auth("429", 429, {"error": "rate"}, Kind.TRANSIENT),
    _auth("502-html", 502, "<html><title>Error 502 (Server Error)!!1</title>", Kind.TRANSIENT),
    _auth("502-page", 502, "<html><h1>502 Bad Gateway</h1></html>", Kind.TRANSIENT),
    _auth("no-token", 200, {"told": "nothing"}, Kind.UNKNOWN),
    _auth("metadata-503", 503, "no", Kind.TRANSIENT, _refresh_on_a_machine),
    _auth("metadata-404", 404, "no", Kind.PERMANENT, _refresh_on_a_machine),
    _impersonated(403, "PERMISSION_DENIED", Kind.PERMANENT),
    _impersonated(503, "UNAVAILABLE", Kind.TRANSIENT),
    Row("google.auth", "refused", lambda service: _refresh(service.refuses()), Kind.TRANSIENT),
    Row("google.auth", "hung-up", lambda service: _refresh(service.hangs_up()), Kind.TRANSIENT),
]


def _httpx(package: ModuleType) -> Callable[[str], object]:
    return lambda proxy: package.get(ELSEWHERE, proxy=proxy, timeout=PATIENCE_S)


def _requests(proxy: str) -> object:
    return requests.get(ELSEWHERE, proxies={"https": proxy}, timeout=PATIENCE_S)


def _urllib(proxy: str) -> object:
    return build_opener(ProxyHandler({"https": proxy})).open(ELSEWHERE, timeout=PATIENCE_S)


def _openai(proxy: str) -> object:
    http = openai.DefaultHttpxClient(proxy=proxy)
    with openai.OpenAI(
        api_key="none", base_url=ELSEWHERE, max_retries=0, http_client=http
    ) as client:
        return client.models.list()


def _anthropic(proxy: str) -> object:
    http = anthropic.DefaultHttpxClient(proxy=proxy)
    with anthropic.Anthropic(
        api_key="none", base_url=ELSEWHERE, max_retries=0, http_client=http
    ) as client:
        return client.models.list()


def _aiohttp(proxy: str) -> object:
    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            await session.get(ELSEWHERE, proxy=proxy)

    return asyncio.run(ask())


def _botocore(proxy: str) -> object:
    config = Config(proxies={"https": proxy}, retries={"total_max_attempts": 1})
    return (
        Session()
        .create_client(
            "s3",
            region_name="us-east-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106 - and there is none
            config=config,
        )
        .list_buckets()
    )


def _langchain(proxy: str) -> object:
    model = ChatOpenAI(
        model="m",
        api_key=SecretStr("none"),
        base_url=ELSEWHERE,
        max_retries=0,
        openai_proxy=proxy,
    )
    return model.invoke("x")


PROXIED: dict[str, tuple[Callable[[str], object], tuple[str, ...]]] = {
    "aiohttp": (_aiohttp, ()),
    "anthropic": (_anthropic, ()),
    "botocore": (_botocore, ()),
    "httpx": (_httpx(httpx), ()),
    "httpx2": (_httpx(httpx2), ()),
    "requests": (_requests, ()),
    "langchain_openai": (_langchain, ()),
    "openai": (_openai, ()),
    "python": (_urllib, ("urllib",)),
}
PROXY_KINDS = {
    407: Kind.PERMANENT,
    403: Kind.PERMANENT,
    502: Kind.TRANSIENT,
    504: Kind.TIMEOUT,
}


def _proxy_row(library: str, status: int) -> Row:
    call, raised_by = PROXIED[library]

    def fail(_service: Service) -> None:
        reply = f"HTTP/1.1 {status} Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with replying(reply.encode()) as port:
            call(f"http://127.0.0.1:{port}")

    return Row(library, f"proxy-{status}", fail, PROXY_KINDS[status], raised_by=raised_by)


ROWS = [*AUTH, *(_proxy_row(library, status) for library in PROXIED for status in PROXY_KINDS)]
