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
from redrive.retry.rules import databases, http, kafka, models, services, system
from redrive.retry.tables import TableLine, table_lines

LINES = table_lines()
TABLES = (
    *(module.CLASSES for module in (http, models, databases, services, kafka)),
    *(http.STATUS, databases.SQLSTATE, databases.SQLSTATE_CLASS, databases.SQLITE),
    *(services.GRPC, services.AWS_CODES, kafka.CODES),
    *(system.STANDARD, system.BUGS, system.ERRNO_NAMES),
    models.QUOTA_CODES,
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
    return KafkaException(KafkaError(int(name), "told"))


def _spoken(name: str) -> BaseException:
    attribute, _, told = name.partition("=")
    return _of_class("some.Error", **{attribute: told != "False"})


def _sqlite(code: int) -> BaseException:
    error = sqlite3.OperationalError("told")
    error.sqlite_errorcode = code
    return error


MAKERS: dict[str, Callable[[str], BaseException]] = {
    "class": _of_class,
    "status": lambda name: _of_class("some.Error", status_code=int(name.replace("x", "9"))),
    "sqlstate": lambda name: _of_class("some.Error", sqlstate=name.replace("x", "Z")),
    "sqlite": lambda name: _sqlite(SQLITE[name]),
    "errno": lambda name: OSError(getattr(errno, name), "told"),
    "grpc": _grpc,
    "aws": lambda name: _of_class("botocore.ClientError", response={"Error": {"Code": name}}),
    "kafka": _kafka,
    "code": lambda name: _of_class("some.Error", code=name),
    "header": lambda name: _answered(418, x_should_retry=name.partition("=")[2]),
    "attribute": _spoken,
}


def _judged(line: TableLine) -> Failure:
    form, _, name = line.what.partition(":")
    return classify(MAKERS[form](name))


def _rule_of(line: TableLine, failure: Failure) -> str:
    """Return the rule in the words of the line: `x` for any digit, no value of an attribute."""
    wanted = line.what.partition("=")[0] if line.what.startswith("attribute") else line.what
    known = {"status": ("9", "x"), "sqlstate": ("Z", "x")}
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
    # By hand: three groups of statuses, two words of a server, one of a driver, three attributes
    # and headers with two values each.
    assert len(LINES) == sum(map(len, TABLES)) + 3 + 2 + 1 + 6


def test_no_line_is_there_twice() -> None:
    names = [line.what for line in LINES]

    assert len(names) == len(set(names))
    assert {line.kind for line in LINES} == set(Kind) - {Kind.POISON}
