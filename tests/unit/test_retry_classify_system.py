"""Judging Python's own exceptions and what the operating system reports."""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
import os
import socket
import sqlite3
import ssl
import subprocess
import urllib.error
from email.message import Message
from pathlib import Path

import pytest
from tests.rows import rows

from redrive import errors
from redrive.retry import Kind, Reason, classify, is_transient_error, reason_of


def _raised_by_opening(path: str) -> OSError:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the kind of OSError is what is asked
        Path(path).read_text(encoding="utf-8")
    return caught.value


@rows(
    ("exc", "kind"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), Kind.TRANSIENT),
        (ConnectionRefusedError(), Kind.TRANSIENT),
        (BrokenPipeError(), Kind.TRANSIENT),
        (BlockingIOError(), Kind.TRANSIENT),
        (InterruptedError(), Kind.TRANSIENT),
        (TimeoutError(), Kind.TIMEOUT),
        (OSError(errno.ETIMEDOUT, "late"), Kind.TIMEOUT),
        (OSError(errno.EHOSTUNREACH, "no way"), Kind.TRANSIENT),
        (OSError(errno.ENETUNREACH, "no way"), Kind.TRANSIENT),
        (OSError(errno.EMFILE, "too many open files"), Kind.TRANSIENT),
        (OSError(errno.EADDRINUSE, "in use"), Kind.TRANSIENT),
        (OSError(errno.EBUSY, "busy"), Kind.TRANSIENT),
        (OSError(errno.ENOSPC, "full"), Kind.UNKNOWN),
        (OSError("no number"), Kind.UNKNOWN),
        (OSError(99_999, "a number of no system"), Kind.UNKNOWN),
        (OSError(errno.EROFS, "read-only"), Kind.PERMANENT),
        (OSError(errno.ENAMETOOLONG, "long"), Kind.PERMANENT),
        (FileNotFoundError("without a number"), Kind.PERMANENT),
        (PermissionError(errno.EACCES, "no"), Kind.PERMANENT),
        (FileExistsError(), Kind.PERMANENT),
        (IsADirectoryError(), Kind.PERMANENT),
        (NotADirectoryError(), Kind.PERMANENT),
        (ProcessLookupError(), Kind.PERMANENT),
        (socket.gaierror(socket.EAI_AGAIN, "later"), Kind.TRANSIENT),
        (ssl.SSLCertVerificationError(1, "certificate"), Kind.PERMANENT),
        # Its number 1 is not the system's EPERM.
        (ssl.SSLError(1, "handshake"), Kind.UNKNOWN),
        (ssl.SSLEOFError(8, "eof"), Kind.TRANSIENT),
        (http.client.IncompleteRead(b""), Kind.TRANSIENT),
        (http.client.RemoteDisconnected(""), Kind.TRANSIENT),
        (asyncio.IncompleteReadError(b"", 4), Kind.TRANSIENT),
        (subprocess.TimeoutExpired("work", 3), Kind.TIMEOUT),
        (subprocess.CalledProcessError(1, "work"), Kind.UNKNOWN),
        (urllib.error.HTTPError("http://x", 503, "", Message(), None), Kind.TRANSIENT),
        (urllib.error.HTTPError("http://x", 404, "", Message(), None), Kind.PERMANENT),
        (urllib.error.URLError("?"), Kind.UNKNOWN),
    ],
    ids=repr,
)
def test_the_systems_errors_are_judged_by_class_and_number(exc: BaseException, kind: Kind) -> None:
    assert classify(exc).kind is kind


@rows(
    ("exc", "kind"),
    [
        (TypeError(), Kind.PERMANENT),
        (AttributeError(), Kind.PERMANENT),
        (NameError(), Kind.PERMANENT),
        (ModuleNotFoundError(), Kind.PERMANENT),
        (SyntaxError(), Kind.PERMANENT),
        (NotImplementedError(), Kind.PERMANENT),
        (AssertionError(), Kind.PERMANENT),
        (ValueError(), Kind.PERMANENT),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), Kind.PERMANENT),
        (KeyError(), Kind.PERMANENT),
        (IndexError(), Kind.PERMANENT),
        (ZeroDivisionError(), Kind.PERMANENT),
        (StopIteration(), Kind.PERMANENT),
        (RecursionError(), Kind.PERMANENT),
        (SystemExit(3), Kind.PERMANENT),
        (json.JSONDecodeError("no", "{", 1), Kind.UNKNOWN),
        (RuntimeError(), Kind.UNKNOWN),
        (Exception(), Kind.UNKNOWN),
        (EOFError(), Kind.UNKNOWN),
        (MemoryError(), Kind.UNKNOWN),
        (asyncio.CancelledError(), Kind.CANCELLED),
        (KeyboardInterrupt(), Kind.CANCELLED),
        (GeneratorExit(), Kind.CANCELLED),
    ],
    ids=repr,
)
def test_pythons_own_exceptions_are_judged_by_class(exc: BaseException, kind: Kind) -> None:
    assert classify(exc).kind is kind


def test_a_missing_file_is_permanent_and_the_rule_names_its_class() -> None:
    failure = classify(_raised_by_opening("/does/not/exist"))

    assert failure.kind is Kind.PERMANENT
    assert failure.rule == "class:builtins.FileNotFoundError"


def test_an_error_number_is_named_in_the_rule() -> None:
    assert classify(OSError(errno.EHOSTUNREACH, "no way")).rule == "errno:EHOSTUNREACH"


def test_a_locked_sqlite_database_is_transient(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("create table t (x)")
    holder.execute("begin exclusive")
    other = sqlite3.connect(path, timeout=0)

    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("insert into t values (1)")
    holder.close()
    other.close()

    assert classify(caught.value).kind is Kind.TRANSIENT
    assert classify(caught.value).rule == "sqlite:SQLITE_BUSY"


def test_a_missing_sqlite_table_is_permanent() -> None:
    database = sqlite3.connect(":memory:")

    with pytest.raises(sqlite3.OperationalError) as caught:
        database.execute("select * from nothing")
    database.close()

    assert classify(caught.value).kind is Kind.PERMANENT


@rows(
    ("exc", "kind", "reason"),
    [
        (errors.TransientError("x"), Kind.TRANSIENT, None),
        (errors.RateLimitedError("x", retry_after=4), Kind.RATE_LIMITED, None),
        (errors.PermanentError("x"), Kind.PERMANENT, None),
        (errors.KafkaUnavailableError("x"), Kind.TRANSIENT, None),
        (errors.RecordError("x"), Kind.POISON, Reason.UNREADABLE),
        (errors.StaleAttemptError("x"), Kind.CANCELLED, None),
        (errors.DeadHandlerError("x"), Kind.PERMANENT, Reason.ERROR_HANDLER_FAILED),
        (
            errors.UnknownWorkflowError("w", known=()),
            Kind.PERMANENT,
            Reason.UNKNOWN_WORKFLOW,
        ),
        (
            errors.ResultError("x", reason="result_not_json"),
            Kind.PERMANENT,
            Reason.RESULT_NOT_JSON,
        ),
        (errors.FencedError("x"), Kind.UNKNOWN, None),
    ],
    ids=repr,
)
def test_our_own_errors_say_what_they_are(
    exc: BaseException, kind: Kind, reason: Reason | None
) -> None:
    assert classify(exc).kind is kind
    assert reason_of(exc) is reason


def test_a_class_of_the_user_may_say_what_it_is() -> None:
    class OutOfStockError(ValueError):
        __redrive_kind__ = "transient"

    assert classify(OutOfStockError()).kind is Kind.TRANSIENT


def test_a_mark_that_names_no_kind_is_no_mark() -> None:
    class OddError(ValueError):
        __redrive_kind__ = "sometimes"

    assert classify(OddError()).kind is Kind.PERMANENT


@pytest.mark.parametrize(
    ("exc", "transient"),
    [
        (ConnectionError(), True),
        (TimeoutError(), True),
        (errors.RateLimitedError(), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (RuntimeError(), False),
        (ValueError(), False),
        (asyncio.CancelledError(), False),
    ],
    ids=repr,
)
def test_the_classic_question_has_a_better_answer(exc: BaseException, *, transient: bool) -> None:
    assert is_transient_error(exc) is transient


@pytest.mark.invariant("P15")
def test_the_judgement_repeats_nothing_of_the_message() -> None:
    failure = classify(OSError(errno.EHOSTUNREACH, "password=hunter2", "/home/secret"))

    assert "hunter2" not in repr(failure)
    assert "secret" not in repr(failure)
    assert os.strerror(errno.EHOSTUNREACH) not in repr(failure)
