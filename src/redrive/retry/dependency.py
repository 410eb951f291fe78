"""Which service a failure speaks of: the host that was asked, else whose client raised it.

What holds for one service holds for all who call it, whichever workflow they are of: a rate limit,
or that it is down. Nothing is guessed from messages; a failure that names nobody is its own
workflow's affair.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import TracebackType
from urllib.parse import urlsplit

from redrive.retry.chain import MAX_BEHIND, links
from redrive.retry.rules.rule_verdict import (
    class_names,
    hidden_context_of,
    look,
    look_int,
    look_str,
    members_of,
    trace_of,
)

__all__ = ["CLIENTS", "dependency_of"]

CLIENTS = frozenset(
    {
        *(
            "anthropic",
            "cerebras",
            "cohere",
            "fireworks",
            "google.genai",
            "groq",
            "huggingface_hub",
        ),
        *("mistralai", "ollama", "openai", "replicate", "together", "voyageai", "xai_sdk"),
        *("exa_py", "firecrawl", "pinecone", "qdrant_client", "serpapi", "tavily", "weaviate"),
        *("aiobotocore", "botocore"),
        *("aiokafka", "confluent_kafka"),
        *("asyncpg", "elasticsearch", "psycopg", "psycopg_pool", "pymongo", "redis"),
    }
)
"""Packages that are the client of one service. An HTTP library is none: it calls anybody."""

# Their errors do not say whom they asked; the call that raised them does.
_CALLERS = frozenset({"aiobotocore", "aiohttp", "botocore", "grpc", "requests"})
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST = re.compile(r"[0-9a-z](?:[0-9a-z._-]*[0-9a-z])?|[0-9a-f]*:[0-9a-f:.]+", re.IGNORECASE)
_GRPC_SCHEME = re.compile(r"(?:dns|ipv4|ipv6|xds):(?://[^/]*/)?")
_MOST_CHARS = 253


def dependency_of(error: BaseException) -> str | None:
    """Return the service that a failure names, or None. Never raises.

    It is `host` or `host:port`, without the usual port of HTTP; where no host can be learnt, the
    package of the client that raised it (`CLIENTS`). An attribute `__redrive_dependency__` decides
    before all else. Of an exception group, the one that all members name which name any.
    """
    try:
        return _of_chain(error, set())
    except BaseException:  # noqa: BLE001 - what it is made of is the user's
        return None


def _of_chain(error: BaseException, seen: set[int]) -> str | None:
    client = None
    for exc in _behind(error, seen):
        if isinstance(exc, BaseExceptionGroup):
            found = _of_group(exc, seen)
        else:
            found = _own_word(exc) or _host(exc) or _caller(trace_of(exc))
            client = client or _client(exc)
        if found is not None:
            return found
    return client


def _of_group(group: BaseException, seen: set[int]) -> str | None:
    named = {_of_chain(member, seen) for member in members_of(group)} - {None}
    return named.pop() if len(named) == 1 else None


def _behind(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """Give the chain of causes, and behind `raise … from None` what was being handled.

    Clients hide the transport's error so; it is not why theirs was raised, but whom they asked.
    What is in `seen` was given already, to whoever looks at another member of a group.
    """
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(seen) < MAX_BEHIND:
        last = at
        for link in links(at):
            if id(link.exc) not in seen:
                seen.add(id(link.exc))
                yield link.exc
            last = link.exc
        at = hidden_context_of(last)


def _own_word(exc: BaseException) -> str | None:
    # LiteLLM makes up the request that its errors carry.
    for name in ("__redrive_dependency__", "llm_provider"):
        told = look_str(exc, name)
        if told:
            return told[:_MOST_CHARS]
    return None


def _host(exc: BaseException) -> str | None:
    """Return whom the request went to that the exception carries, in each library's own way."""
    response = look(exc, "response")
    kwargs = look(exc, "kwargs")
    urls = (
        look(look(exc, "request"), "url"),
        look(look(response, "request"), "url"),
        look(look(exc, "request_info"), "url"),
        look(look(response, "request_info"), "url"),
        look(response, "url"),
        look(exc, "url"),
        kwargs.get("endpoint_url") if isinstance(kwargs, dict) else None,
    )
    named = next(filter(None, map(_of_url, urls)), None)
    # aiohttp tells it itself; urllib3 by the connection, or by the pool that it would be of; gRPC
    # by the state of a stream.
    peers = (exc, look(exc, "conn") or look(exc, "pool"))
    named = named or next(filter(None, map(_of_peer, peers)), None)
    return named or _of_target(look(look(exc, "_state"), "target"))


def _of_url(url: object) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(str(url))
        host, port = parts.hostname, parts.port
    except Exception:  # noqa: BLE001 - no URL, or an object of someone else's class
        return None
    if parts.scheme not in _PORTS or host is None:
        return None
    return _named(host, None if port == _PORTS[parts.scheme] else port)


def _of_peer(peer: object) -> str | None:
    host, port = look_str(peer, "host"), look_int(peer, "port")
    return None if host is None else _named(host.strip("[]"), None if port in (80, 443) else port)


def _named(host: str, port: int | None) -> str | None:
    if len(host) > _MOST_CHARS or not _HOST.fullmatch(host):
        return None
    host = f"[{host.lower()}]" if ":" in host else host.lower()
    return host if port is None else f"{host}:{port}"


def _caller(trace: TracebackType | None) -> str | None:
    """Return whom the client was made for whose method raised, or whom it was to call."""
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _CALLERS:
            client, asked = frame.f_locals.get("self"), frame.f_locals.get("url")
            urls = (look(look(client, "meta"), "endpoint_url"), look(client, "url"), asked)
            found = next(filter(None, map(_of_url, urls)), _of_target(look(client, "_target")))
            if found is not None:
                return found
        trace = trace.tb_next
    return None


def _of_target(target: object) -> str | None:
    """Read a gRPC target: `host:port`, or with a scheme as in `dns:///host:port`."""
    text = target.decode("utf-8", "replace") if isinstance(target, bytes) else target
    if not isinstance(text, str):
        return None
    first = _GRPC_SCHEME.sub("", text, count=1).partition(",")[0]
    return _of_url(f"https://{first}")


def _client(exc: BaseException) -> str | None:
    packages = (name.rpartition(".")[0] for name in class_names(exc))
    return next((package for package in packages if package in CLIENTS), None)
