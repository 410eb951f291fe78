"""What is said again and again is logged when it is new, and once a minute with its count."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from redrive.kafka.connect import make_producer
from redrive.telemetry.repeats import EVERY_S, MOST, REPEATS, Repeats
from redrive.testing import ManualClock


def test_one_line_when_it_is_new_and_then_a_count_a_minute() -> None:
    clock = ManualClock()
    repeats = Repeats(clock)
    lines = []

    for number in range(300):
        text = f"Connect to 127.0.0.1:{number} failed (after {number}ms in state CONNECT)"
        lines.append(repeats.to_log("client_error", text))
        clock.advance(1.0)

    said = [line for line in lines if line is not None]
    assert said == [{}, *[{"times": int(EVERY_S)}] * 4]


def test_errors_that_take_turns_are_each_new_once() -> None:
    repeats = Repeats(ManualClock())

    said = [repeats.to_log(error) for error in ["refused", "down", "reset"] * 100]

    assert [line for line in said if line is not None] == [{}] * 3


def test_what_was_not_said_for_a_minute_is_new_again() -> None:
    clock = ManualClock()
    repeats = Repeats(clock)
    repeats.to_log("refused")
    clock.advance(EVERY_S)

    assert repeats.to_log("refused") == {}


def test_what_is_remembered_has_a_limit() -> None:
    repeats = Repeats(ManualClock())
    for number in range(MOST * 3):
        assert repeats.to_log("x" * number) == {}

    assert len(repeats._said) == MOST  # noqa: SLF001 - its bound


def test_a_client_that_reaches_nobody_says_so_in_a_few_lines() -> None:
    errors: list[KafkaError] = []
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]  # all that it does
    log = logging.getLogger("redrive.kafka.librdkafka")
    log.addHandler(handler)
    level_before = log.level
    log.setLevel(logging.DEBUG)
    REPEATS.forget()
    config = {"bootstrap.servers": "127.0.0.1:1", "reconnect.backoff.ms": 0}
    try:
        with capture_logs() as logs:
            client = make_producer(config, on_error=errors.append)
            while len(errors) < 30:
                client.poll(1.0)
    finally:
        log.removeHandler(handler)
        log.setLevel(level_before)

    assert 0 < len(records) < 6
    assert 0 < len([line for line in logs if line["event"] == "kafka.client_error"]) < 6
