from __future__ import annotations

import json
import logging
import threading
from functools import partial

import pytest
import structlog

from redrive.aside import call_and_wait
from redrive.telemetry.logging import MAX_LINE_CHARS, configure_logging

pytestmark = pytest.mark.usefixtures("own_logging")


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    printed = capsys.readouterr()
    assert not printed.out
    return [json.loads(line) for line in printed.err.splitlines()]


def test_an_event_is_one_json_line_on_stderr_when_that_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging()

    structlog.get_logger("redrive.x").warning("record.retry_scheduled", attempt=2)

    (line,) = _lines(capsys)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "record.retry_scheduled",
        "level": "warning",
        "logger": "redrive.x",
        "attempt": 2,
    }


def test_a_logger_that_was_taken_before_the_set_up_obeys_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = structlog.get_logger("redrive.x")
    configure_logging(level="WARNING")

    log.info("quiet")
    log.warning("heard")

    assert [line["event"] for line in _lines(capsys)] == ["heard"]


@pytest.mark.parametrize("name", ["another.library", "redrive.kafka.librdkafka"])
def test_other_libraries_are_heard_from_warning_on(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(level="DEBUG")

    logging.getLogger(name).info("quiet")
    logging.getLogger(name).warning("broker %s is away", 1)

    (line,) = _lines(capsys)
    assert (line["event"], line["logger"]) == ("broker 1 is away", name)


def test_a_higher_level_holds_for_other_libraries_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="CRITICAL")

    logging.getLogger("redrive.kafka.librdkafka").error("connection refused")
    logging.getLogger("another.library").error("no")

    assert _lines(capsys) == []


def test_the_form_for_people_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=False)

    structlog.get_logger("redrive.x").info("worker.started", id="w-1")

    printed = capsys.readouterr().err
    assert "worker.started" in printed
    assert "id=w-1" in printed


@pytest.mark.invariant("P15")
@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_local_variables(
    as_json: bool,  # noqa: FBT001 - a parameter of the test
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(json=as_json)
    payload = {"iban": "DE02120300000000202051"}

    try:
        payload["name"]
    except KeyError:
        structlog.get_logger("redrive.x").exception("bug")

    printed = capsys.readouterr().err
    assert "KeyError" in printed
    assert payload["iban"] not in printed.replace("\\n", "\n")


def test_each_line_says_which_worker_it_is_of_unless_it_says_so_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(worker="w-1")

    structlog.get_logger("redrive.x").info("ours")
    logging.getLogger("somebody.else").warning("theirs")
    structlog.get_logger("redrive.x").info("of another", worker="w-2")

    assert [line["worker"] for line in _lines(capsys)] == ["w-1", "w-1", "w-2"]


@pytest.mark.invariant("P7")
def test_a_line_has_a_length_and_a_long_text_leaves_room_for_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(json=True)

    long = "begin " + "password=hunter2 " * 60_000 + "end"
    logging.getLogger("another.library").warning(long, extra={})
    structlog.get_logger("redrive.x").warning("much", a=long, b=[long] * 9, c={long: long}, d="d")

    printed = capsys.readouterr().err
    many = dict.fromkeys(map(str, range(20_000)), "short")
    structlog.get_logger("redrive.x").warning("many", e=many)
    third = capsys.readouterr().err
    first, second = (json.loads(line) for line in printed.splitlines())
    assert "hunter2" not in printed
    assert max(map(len, [*printed.splitlines(), third])) <= 2 * MAX_LINE_CHARS
    assert (first["event"][:6], first["event"][-3:]) == ("begin ", "end")
    assert (second["event"], second["d"]) == ("much", "d")


@pytest.mark.invariant("P7")
def test_an_exception_that_does_not_answer_is_logged_by_its_type(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class SilentError(Exception):
        def __str__(self) -> str:
            released.wait()
            return "at last"

    limited = partial(call_and_wait, limit_s=0.1)
    monkeypatch.setattr("redrive.telemetry.logging.call_and_wait", limited)
    configure_logging(json=True)

    logging.getLogger("another.library").error("failed", exc_info=SilentError())
    released.set()

    (line,) = _lines(capsys)
    assert (line["event"], line["exception"]) == ("failed", "SilentError: it was not told in time")
