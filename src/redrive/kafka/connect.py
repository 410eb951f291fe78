"""Makes Kafka clients from their options: what librdkafka says goes to Python's logging.

The options themselves are `redrive.kafka.client`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from redrive.errors import SettingsError
from redrive.kafka.client import ALIASES
from redrive.kafka.retrying import advice, is_permanent
from redrive.telemetry.repeats import REPEATS

__all__ = ["OnError", "make_admin", "make_consumer", "make_producer"]

OnError = Callable[[KafkaError], None]

_Client = TypeVar("_Client", Consumer, Producer, AdminClient)

_log = structlog.get_logger(__name__)


def make_consumer(config: Mapping[str, object], *, on_error: OnError | None = None) -> Consumer:
    """Return a consumer. Its errors, and its log, arrive while it is polled.

    Args:
        config: From `consumer_config` or `reader_config`, with callbacks of yours added.
        on_error: Gets each client-wide error; they are logged in any case.

    Raises:
        SettingsError: librdkafka does not know an option, or refuses its value.
    """
    return _make(Consumer, config, on_error)


def make_producer(config: Mapping[str, object], *, on_error: OnError | None = None) -> Producer:
    """Return a producer. Its errors, and its log, arrive while it is polled.

    They wait in its queue: `len(producer)` and what `flush` returns count them like records, so
    only delivery reports say what is stored.

    Args:
        config: From `producer_config`.
        on_error: Gets each client-wide error; they are logged in any case.

    Raises:
        SettingsError: librdkafka does not know an option, or refuses its value.
    """
    return _make(Producer, config, on_error)


def make_admin(config: Mapping[str, object], *, on_error: OnError | None = None) -> AdminClient:
    """Return an admin client. Its errors, and its log, arrive while it is polled.

    Args:
        config: From `admin_config`.
        on_error: Gets each client-wide error; they are logged in any case.

    Raises:
        SettingsError: librdkafka does not know an option, or refuses its value.
    """
    return _make(AdminClient, config, on_error)


def _make(kind: type[_Client], config: Mapping[str, object], on_error: OnError | None) -> _Client:
    def report(error: KafkaError) -> None:
        facts = {"code": error.name(), "error": error.str(), "advice": advice(error)}
        times = REPEATS.to_log(kind.__name__, error.code(), error.str())
        if times is not None and is_permanent(error):
            _log.error("kafka.client_refused", **facts, **times)
        elif times is not None:
            _log.warning("kafka.client_error", **facts, **times)
        if on_error is not None:
            on_error(error)

    options: dict[str, Any] = {**config, "error_cb": report, "logger": _librdkafka_log()}
    try:
        return kind(options)
    except KafkaException as refused:
        if refused.args[0].code() == KafkaError.SASL_AUTHENTICATION_FAILED:
            # No token came in time; whoever gives them may be away.
            raise
        raise SettingsError(f"kafka.config: {_both_names(refused.args[0].str())}") from refused
    except SystemError:
        # So the client says that a text is no UTF-8; its own may name characters of a password.
        raise SettingsError(
            "kafka.config: an option, or the address of the brokers, is not UTF-8: correct it"
        ) from None
    # A value of the wrong type, such as text for a callback.
    except (AttributeError, TypeError, ValueError) as refused:
        raise SettingsError(f"kafka.config: {refused}") from refused


def _both_names(text: str) -> str:
    for first, second in ALIASES.items():
        text = text.replace(f'"{first}"', f'"{first}" (also called {second})')
    return text


def _librdkafka_log() -> logging.Logger:
    log = logging.getLogger("redrive.kafka.librdkafka")
    log.addFilter(_is_news)
    return log


def _is_news(record: logging.LogRecord) -> bool:
    # `kafka.config` goes to every client: that a producer has no use for an option of
    # consumers is no news.
    text = record.getMessage()
    if "CONFWARN" in text and "property and will be ignored by this" in text:
        return False
    times = REPEATS.to_log(text)
    if times:
        record.msg, record.args = f"{text} ({times['times']} times)", None
    return times is not None
