"""Every line of the built-in tables, for people: the pages and `redrive classify --list` use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redrive.retry.kinds import Kind
from redrive.retry.rules import (
    agents,
    codes,
    databases,
    frames,
    google,
    grpc,
    http,
    kafka,
    limits,
    models,
    services,
    system,
)

__all__ = ["TableLine", "table_lines"]


@dataclass(frozen=True, slots=True)
class TableLine:
    """What a table of this family says.

    `what` is written as `Failure.rule` names it: `class:httpx.TimeoutException`, `status:408`.
    Where one line stands for many codes, `x` stands for any digit: `status:5xx`.
    """

    family: str
    what: str
    kind: Kind


def table_lines() -> list[TableLine]:
    """Return the lines of all tables, each family in the order in which it is asked."""
    return [
        TableLine(family, what, kind)
        for family, lines in _families().items()
        for what, kind in lines.items()
    ]


def _families() -> dict[str, dict[str, Kind]]:
    return {
        "HTTP": {
            **_named("class", http.CLASSES),
            **_named("status", http.STATUS),
            **_other_statuses(),
            "proxy:4xx": Kind.PERMANENT,
            "proxy:refused": Kind.PERMANENT,
        },
        "Language models and graphs": {
            **_named("code", codes.STATUS_CODES),
            **_named("limit", dict.fromkeys(limits.HOPELESS, Kind.PERMANENT)),
            **{f"{package}:{n}": kind for (package, n), kind in models.PROVIDER_STATUS.items()},
            **_yes_and_no("header:x-should-retry", "true", "false"),
            **_named("class", models.CLASSES),
            **_yes_and_no("attribute:is_retryable", "True", "False"),
        },
        "Agents and tools": {
            **_named("mcp", dict(sorted(agents.MCP.items()))),
            **_named("class", agents.CLASSES),
        },
        "Errors told in an answer": {
            "text:missing_key": Kind.PERMANENT,
            **_named("answer", codes.ERROR_CODES),
            **_named("frame", dict.fromkeys(sorted(frames.CLIENTS), Kind.UNKNOWN)),
        },
        "Databases": {
            "attribute:connection_invalidated": Kind.TRANSIENT,
            **_named("sqlstate", databases.SQLSTATE),
            **_named("sqlstate", {f"{c}xxx": k for c, k in databases.SQLSTATE_CLASS.items()}),
            **_named("sqlite", dict(databases.SQLITE.values())),
            **_named("class", databases.CLASSES),
        },
        "Remote services": _of_services(),
        "Kafka": {
            "kafka:fatal": Kind.PERMANENT,
            "kafka:tls_alert": Kind.PERMANENT,
            **_named("kafka", dict(sorted(kafka.CODES.items()))),
            **_named("class", kafka.CLASSES),
            **_yes_and_no("attribute:retriable", "True", "False"),
        },
        "Python and the operating system": {
            **_named("class", system.STANDARD),
            **_named("errno", system.ERRNO_NAMES),
        },
        "Python's general classes": _named("class", system.BUGS),
    }


def _of_services() -> dict[str, Kind]:
    return {
        "grpc:pushback": Kind.PERMANENT,
        **_named("grpc", grpc.GRPC),
        **_named("class", grpc.CLASSES),
        **_named("aws", services.AWS_CODES),
        **_named("class", services.CLASSES),
        "attribute:retryable=True": Kind.TRANSIENT,
        **_named("oauth", google.OAUTH),
        **_named("google", google.REASONS),
        **_named("class", google.CLASSES),
    }


def _named(form: str, table: Mapping[int, Kind] | Mapping[str, Kind]) -> dict[str, Kind]:
    return {f"{form}:{name}": kind for name, kind in table.items()}


def _other_statuses() -> dict[str, Kind]:
    """Return what the statuses that the table does not name are, by their first digit."""
    found: dict[str, Kind] = {}
    for first in (3, 4, 5):
        others = (first * 100 + rest for rest in range(100))
        kind = http.kind_of_status(next(status for status in others if status not in http.STATUS))
        if kind is not None:
            found[f"status:{first}xx"] = kind
    return found


def _yes_and_no(what: str, yes: str, no: str) -> dict[str, Kind]:
    return {f"{what}={yes}": Kind.TRANSIENT, f"{what}={no}": Kind.PERMANENT}
