"""The lines that are shown to people, against what the classifier says of such an error."""

from __future__ import annotations

import builtins
import errno
import sqlite3
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException
from tests.rows import rows

from redrive.retry import Failure, Kind, classify
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
from redrive.retry.tables import TableLine, table_lines

LINES = table_lines()
TABLES = (
    *(
        module.CLASSES
        for module in (http, models, agents, databases, services, google, grpc, kafka)
    ),
    *(http.STATUS, databases.SQLSTATE, databases.SQLSTATE_CLASS, databases.SQLITE),
    *(grpc.GRPC, services.AWS_CODES, kafka.CODES, agents.MCP, google.OAUTH, google.REASONS),
    *(system.STANDARD, system.BUGS, system.ERRNO_NAMES),
    *(codes.STATUS_CODES, codes.ERROR_CODES, frames.CLIENTS, limits.HOPELESS),
    models.PROVIDER_STATUS,
)
SQLITE = {name: code for code, (name, _) in databases.SQLITE.items()}


def _of_class(name: str, **attributes: object) -> BaseException:
    """Make an error of a class of this name; Python's own are taken as they are."""
    package, _, own = name.rpartition(".")
    if package == "builtins":
        made = getattr(builtins, own)()
    else:
        made = type(own, (Exception,), {"__module__": package})()
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    assert isinstance(made, BaseException)
    return made


def _answered(status: int, **headers: str) -> BaseException:
    response = SimpleNamespace(
        status_code=status, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )
    return _of_class("some.Error", response=response)


def _grpc(name: str) -> BaseException:
    metadata = [("grpc-retry-pushback-ms", "-1")] if name == "pushback" else []
    code = SimpleNamespace(name="UNAVAILABLE" if name == "pushback" else name)
    return _of_class("grpc.RpcError", code=lambda: code, trailing_metadata=lambda: metadata)


def _kafka(name: str) -> BaseException:
    if name == "fatal":
        return KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT, "told", fatal=True))
    if name == "tls_alert":
        return KafkaException(KafkaError(KafkaError._TRANSPORT, "SSL alert number 45"))
    return KafkaException(KafkaError(int(name), "told"))


def _spoken(name: str) -> BaseException:
    attribute, _, told = name.partition("=")
    package = "google.auth.GoogleAuthError" if attribute == "retryable" else "some.Error"
    return _of_class(package, **{attribute: told != "False"})


def _raised_in(module: str, error: Exception) -> BaseException:
    """Raise the error in a function of this module."""
    space: dict[str, object] = {"__name__": module, "error": error}
    try:
        exec("raise error", space)  # noqa: S102 - a frame of another module
    except Exception as raised:  # noqa: BLE001 - to be judged
        return raised
    raise AssertionError("it was not raised")


LIMITS = {
    "too_large": "Request too large",
    "zero_quota": "limit: 0",
    "daily_quota": "requests per day",
}
PROXIES = {"4xx": "488 told", "refused": "Invalid username/password"}


def _of_google(name: str) -> BaseException:
    error = _of_class("google.api_core.GoogleAPICallError", errors=[{"reason": name}])
    error.args = ("told",)
    return error


def _signing_in(name: str) -> BaseException:
    error = _of_class("google.auth.GoogleAuthError")
    error.args = (f"{name}: told",)
    return error


def _with_text(name: str, text: str, **attributes: object) -> BaseException:
    error = _of_class(name, **attributes)
    error.args = (text,)
    return error


def _sqlite(code: int) -> BaseException:
    error = sqlite3.OperationalError("told")
    error.sqlite_errorcode = code
    return error


MAKERS: dict[str, Callable[[str], BaseException]] = {
    "class": _of_class,
    "status": lambda name: _of_class("some.Error", status_code=int(name.replace("x", "8"))),
    "sqlstate": lambda name: _of_class("some.Error", sqlstate=name.replace("x", "Z")),
    "sqlite": lambda name: _sqlite(SQLITE[name]),
    "errno": lambda name: OSError(getattr(errno, name), "told"),
    "grpc": _grpc,
    "aws": lambda name: _of_class("botocore.ClientError", response={"Error": {"Code": name}}),
    "kafka": _kafka,
    "code": lambda name: _of_class("some.Error", code=name),
    "header": lambda name: _answered(418, x_should_retry=name.partition("=")[2]),
    "attribute": _spoken,
    "mcp": lambda name: _of_class("mcp.MCPError", error=SimpleNamespace(code=int(name))),
    "oauth": _signing_in,
    "google": _of_google,
    "groq": lambda name: _of_class("groq.APIStatusError", status_code=int(name)),
    "openai": lambda name: _of_class("openai.APIStatusError", status_code=int(name)),
    "proxy": lambda name: _with_text("httpx.ProxyError", PROXIES[name]),
    "limit": lambda name: _with_text("some.Error", LIMITS[name], status_code=429),
    "answer": lambda name: _raised_in("openai", ValueError({"code": name})),
    "frame": lambda name: _raised_in(name, ValueError()),
    "text": lambda _name: _raised_in("openai", ValueError("no API key was given")),
}


def _judged(line: TableLine) -> Failure:
    form, _, name = line.what.partition(":")
    return classify(MAKERS[form](name))


def _rule_of(line: TableLine, failure: Failure) -> str:
    """Return the rule in the words of the line: `x` for any digit, no value of an attribute."""
    wanted = line.what.partition("=")[0] if line.what.startswith("attribute") else line.what
    known = {"status": ("8", "x"), "sqlstate": ("Z", "x"), "proxy": ("8", "x")}
    old, new = known.get(line.what.partition(":")[0], ("", ""))
    said = failure.rule.replace(old, new) if wanted.endswith("xx") else failure.rule
    return "as it says" if said == wanted else said


@rows("line", LINES, ids=lambda line: line.what)
def test_a_line_says_what_the_classifier_does(line: TableLine) -> None:
    if line.what.startswith("errno:") and not hasattr(errno, line.what[6:]):
        pytest.skip("this system has no such number")

    failure = _judged(line)

    assert failure.kind is line.kind
    # An OSError of such a number becomes a class of its own, or has another name for it.
    if not line.what.startswith("errno:"):
        assert _rule_of(line, failure) == "as it says"


def test_every_entry_of_every_table_has_its_line() -> None:
    # By hand: three groups of statuses, two words of a server, one of a driver, two of proxies, a
    # key that is missing, google-auth's attribute, a TLS alert, three attributes and headers with
    # two values.
    assert len(LINES) == sum(map(len, TABLES)) + 3 + 2 + 1 + 2 + 1 + 1 + 1 + 6


def test_no_line_is_there_twice() -> None:
    names = [line.what for line in LINES]

    assert len(names) == len(set(names))
    assert {line.kind for line in LINES} == set(Kind) - {Kind.POISON}
