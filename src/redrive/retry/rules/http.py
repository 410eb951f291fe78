"""HTTP: what a status means, and the errors of httpx, httpx2, requests, urllib3 and aiohttp."""

from __future__ import annotations

import re

from redrive.retry.kinds import Kind
from redrive.retry.rules.rule_verdict import (
    RuleVerdict,
    by_class,
    cause_of,
    class_names,
    look,
    look_int,
    short_name,
    text_of,
)

__all__ = [
    "CLASSES",
    "PROXIED",
    "STATUS",
    "kind_of_status",
    "read_proxy",
    "read_status",
    "status_of",
]

_HTTPX = {
    "TimeoutException": Kind.TIMEOUT,
    "UnsupportedProtocol": Kind.PERMANENT,
    "LocalProtocolError": Kind.PERMANENT,
    "TransportError": Kind.TRANSIENT,
    "InvalidURL": Kind.PERMANENT,
    "TooManyRedirects": Kind.PERMANENT,
    "DecodingError": Kind.PERMANENT,
    "CookieConflict": Kind.PERMANENT,
    "StreamError": Kind.PERMANENT,
}

CLASSES: dict[str, Kind] = {
    # httpx2 is httpx's successor with classes of its own; the names are the same.
    **{
        f"{package}.{name}": kind
        for package in ("httpx", "httpx2")
        for name, kind in _HTTPX.items()
    },
    "httpcore.TimeoutException": Kind.TIMEOUT,
    "httpcore.NetworkError": Kind.TRANSIENT,
    "httpcore.RemoteProtocolError": Kind.TRANSIENT,
    "httpcore.ProxyError": Kind.TRANSIENT,
    "requests.Timeout": Kind.TIMEOUT,
    # A ConnectionError to requests, but a certificate does not mend itself.
    "requests.SSLError": Kind.PERMANENT,
    # Both a ConnectionError and a Timeout, in this order.
    "requests.ConnectTimeout": Kind.TIMEOUT,
    "requests.ConnectionError": Kind.TRANSIENT,
    "requests.ChunkedEncodingError": Kind.TRANSIENT,
    "requests.JSONDecodeError": Kind.UNKNOWN,
    "requests.ContentDecodingError": Kind.PERMANENT,
    "requests.InvalidURL": Kind.PERMANENT,
    "requests.InvalidSchema": Kind.PERMANENT,
    "requests.InvalidHeader": Kind.PERMANENT,
    "requests.MissingSchema": Kind.PERMANENT,
    "requests.TooManyRedirects": Kind.PERMANENT,
    "requests.URLRequired": Kind.PERMANENT,
    "urllib3.SSLError": Kind.PERMANENT,
    "urllib3.LocationValueError": Kind.PERMANENT,
    "urllib3.TimeoutError": Kind.TIMEOUT,
    "urllib3.ProtocolError": Kind.TRANSIENT,
    "urllib3.NewConnectionError": Kind.TRANSIENT,
    "urllib3.ProxyError": Kind.TRANSIENT,
    "urllib3.MaxRetryError": Kind.TRANSIENT,
    "aiohttp.ServerTimeoutError": Kind.TIMEOUT,
    "aiohttp.ClientConnectorCertificateError": Kind.PERMANENT,
    "aiohttp.ServerFingerprintMismatch": Kind.PERMANENT,
    "aiohttp.ClientConnectionError": Kind.TRANSIENT,
    "aiohttp.ClientPayloadError": Kind.TRANSIENT,
    "aiohttp.InvalidURL": Kind.PERMANENT,
    "aiohttp.NonHttpUrlClientError": Kind.PERMANENT,
    "aiohttp.TooManyRedirects": Kind.PERMANENT,
    # The answer was no HTTP.
    "aiohttp.HttpProcessingError": Kind.TRANSIENT,
}

# RFC 9110 and 6585; 4xx and 5xx that are not named follow the rule in `kind_of_status`.
STATUS: dict[int, Kind] = {
    408: Kind.TIMEOUT,
    425: Kind.TRANSIENT,
    424: Kind.UNKNOWN,  # another service failed behind this one, and may be well by now
    429: Kind.RATE_LIMITED,
    499: Kind.UNKNOWN,  # a proxy's word: somebody between broke the request off
    501: Kind.PERMANENT,
    504: Kind.TIMEOUT,
    505: Kind.PERMANENT,
    506: Kind.PERMANENT,
    508: Kind.PERMANENT,
    510: Kind.PERMANENT,
    511: Kind.PERMANENT,
    526: Kind.PERMANENT,
}

_FIRST, _SERVER, _END = 300, 500, 600

# The answer to CONNECT stands in the message alone; SOCKS has words for it.
_PROXY_ERRORS = frozenset(
    f"{package}.ProxyError"
    for package in ("httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")
)
PROXIED = _PROXY_ERRORS | {"builtins.OSError"}
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})\b")
_ANSWER = re.compile(r"^(\d{3})\b")
_SOCKS_REFUSALS = ("Invalid username/password", "not allowed by ruleset", "NO ACCEPTABLE METHODS")


def kind_of_status(status: int) -> Kind | None:
    """Return what a status means, or None when it is no failure's status."""
    if status in STATUS:
        return STATUS[status]
    if not _FIRST <= status < _END:
        return None
    return Kind.TRANSIENT if status >= _SERVER else Kind.PERMANENT


def status_of(exc: BaseException) -> int | None:
    """Return the HTTP status that the exception carries, or None."""
    response = look(exc, "response")
    candidates = (
        look_int(exc, "status_code"),
        look_int(response, "status_code"),
        look_int(exc, "status"),
        look_int(response, "status"),
        look_int(exc, "http_status"),  # stripe, and older SDKs
        look_int(exc, "code"),
        look_int(look(exc, "resp"), "status"),
        _status_in(response),
    )
    for status in candidates:
        if status is not None and _FIRST <= status < _END:
            return status
    return None


def read_status(exc: BaseException) -> RuleVerdict | None:
    """Judge by the HTTP status."""
    cause = cause_of(exc)
    if cause is not None and "aiohttp.HttpProcessingError" in class_names(cause):
        # The status is the client's own word for an answer that it could not read.
        return by_class(cause, CLASSES)
    status = status_of(exc)
    kind = None if status is None else kind_of_status(status)
    if kind is None:
        return None
    return RuleVerdict(
        kind, f"status:{status}", f"{short_name(exc)} with HTTP status {status} is {kind.value}"
    )


def read_proxy(exc: BaseException) -> RuleVerdict | None:
    """Judge a connection by what a proxy said to it; its name means only that there is a proxy."""
    asked = not _PROXY_ERRORS.isdisjoint(class_names(exc))
    text = text_of(exc)
    found = _TUNNEL.search(text) or (_ANSWER.match(text) if asked else None)
    kind = None if found is None else kind_of_status(int(found.group(1)))
    if found is not None and kind is not None:
        status = found.group(1)
        return RuleVerdict(kind, f"proxy:{status}", f"a proxy answered with HTTP status {status}")
    if asked and any(refusal in text for refusal in _SOCKS_REFUSALS):
        return RuleVerdict(Kind.PERMANENT, "proxy:refused", "a proxy refused the connection")
    return None


def _status_in(response: object) -> int | None:
    # botocore answers with a dict.
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    status = metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None
    return status if isinstance(status, int) and not isinstance(status, bool) else None
