"""From an Airflow connection of type `kafka` to our settings.

Airflow itself is asked only where a connection wants tokens (`redrive.airflow.connection_tokens`).

The Kafka provider keeps librdkafka's options in the connection's extra field. What concerns one
kind of client alone (groups, offsets, partitioner, transactions) is ours to set, and dropped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import ValidationError

from redrive.airflow.connection_tokens import TOKEN_OF_CONNECTION, has_token
from redrive.airflow.host_settings import host_security
from redrive.airflow_settings import ID_SECRET_KEY, id_secret_of
from redrive.errors import SettingsError
from redrive.kafka.client import REFUSED
from redrive.kafka.kafka_settings import KafkaSettings, runs_code
from redrive.kafka.tokens import lacks_token
from redrive.secret_values import is_reference
from redrive.security_settings import SecuritySettings
from redrive.signatures import Signer
from redrive.telemetry.secret_names import is_secret_name

__all__ = [
    "EVENTS_TOPIC_VARIABLE",
    "RESULTS_TOPIC_VARIABLE",
    "id_secret",
    "kafka_settings",
    "signer_of",
]

EVENTS_TOPIC_VARIABLE = "KAFKA_WORKFLOW_EVENTS_TOPIC"
RESULTS_TOPIC_VARIABLE = "KAFKA_WORKFLOW_RESULTS_TOPIC"
_REQUIRE_ANSWERS_VARIABLE = "REDRIVE_KAFKA__REQUIRE_ANSWERS"

_SIGN_WITH, _SIGNING_SECRET = "security.sign_with", "security.signing_secret"

_NOT_FOR_ALL = {
    "auto.commit.interval.ms",
    "auto.offset.reset",
    ID_SECRET_KEY,
    "error_cb",
    "group.protocol.type",
    "heartbeat.interval.ms",
    "log_cb",
    "metadata.broker.list",
    "on_commit",
    "request.required.acks",
    _SIGNING_SECRET,
    _SIGN_WITH,
    "stats_cb",
    "throttle_cb",
}
_DROPPED = frozenset(_NOT_FOR_ALL | REFUSED.keys())


def kafka_settings(
    extra: Mapping[str, object],
    *,
    conn_id: str,
    events_topic: str | None = None,
    results_topic: str | None = None,
) -> KafkaSettings:
    """Return the settings that the connection's extra field describes.

    A topic that is not given comes from the environment (`KAFKA_WORKFLOW_EVENTS_TOPIC`,
    `KAFKA_WORKFLOW_RESULTS_TOPIC`), else it has its usual name.

    Raises:
        SettingsError: It names no brokers, or an option that we cannot take.
    """
    servers = extra.get("bootstrap.servers") or extra.get("metadata.broker.list")
    if not isinstance(servers, str) or not servers.strip():
        raise SettingsError(
            f"connection {conn_id!r} names no brokers: put "
            '{"bootstrap.servers": "host:9092"} into its extra field'
        )
    _check(extra, conn_id)
    topics = {
        "events_topic": events_topic or os.environ.get(EVENTS_TOPIC_VARIABLE),
        "results_topic": results_topic or os.environ.get(RESULTS_TOPIC_VARIABLE),
    }
    token = _token(extra, conn_id)
    config = {k: _text(k, v, conn_id) for k, v in extra.items() if k not in _DROPPED} | token
    named = {field: name for field, name in topics.items() if name}
    group = extra.get("group.id")
    if required := os.environ.get(_REQUIRE_ANSWERS_VARIABLE):
        named["require_answers"] = required
    if isinstance(group, str) and group:
        # No group is joined, but librdkafka wants a name, and the rights may be bound to it.
        named["group_id"] = group
    if token:
        named["oauth"] = TOKEN_OF_CONNECTION
    try:
        return KafkaSettings.model_validate(
            {"bootstrap_servers": servers, "config": config, **named}
        )
    except ValidationError as error:
        # Without what was given, which holds passwords. [P15]
        first = error.errors(include_url=False, include_input=False)[0]
        field = "".join(f"kafka.{part}: " for part in first["loc"][:1])
        raise SettingsError(
            f"connection {conn_id!r}, with the topics and variables of this task: {field}"
            f"{first['msg'].removeprefix('Value error, ')}"
        ) from None


def id_secret(extra: Mapping[str, object], *, conn_id: str) -> bytes | None:
    """Return what ids of tasks' events are made with, of the connection, else of the environment.

    Raises:
        SettingsError: It is too short, refers to this host, or cannot be read.
    """
    _check(extra, conn_id)
    return id_secret_of(extra.get(ID_SECRET_KEY), conn_id=conn_id)


def signer_of(
    extra: Mapping[str, object], *, conn_id: str, environ: Mapping[str, str] = os.environ
) -> Signer | None:
    """Return who signs the events of tasks: by the connection, else by the host; None: nobody.

    Raises:
        SettingsError: The key has no name or no secret, is too short, or cannot be read.
    """
    _check(extra, conn_id)
    name, secret = extra.get(_SIGN_WITH), extra.get(_SIGNING_SECRET)
    if name is None and secret is None:
        return host_security(environ).trust().signer
    if not (isinstance(name, str) and isinstance(secret, str)):
        raise SettingsError(
            f"connection {conn_id!r}: {_SIGN_WITH!r}, the name of a key, and {_SIGNING_SECRET!r} "
            "go together, as text"
        )
    try:
        settings = SecuritySettings.model_validate({"signing_keys": {name: secret}})
    except ValidationError as error:
        # Never the value, which may be a secret. [P15]
        told = error.errors(include_url=False, include_input=False, include_context=False)
        why = "; ".join(one["msg"] for one in told)
        raise SettingsError(f"connection {conn_id!r}: {why}") from None
    return settings.trust().signer


def _check(extra: Mapping[str, object], conn_id: str) -> None:
    """Refuse what whoever edits connections need not be trusted with on this host."""
    if (why := runs_code(extra)) is not None:
        raise SettingsError(f"connection {conn_id!r}: {why}")
    for option, value in extra.items():
        # It would send any file of this host to a broker of the connection's choice.
        if is_secret_name(option) and is_reference(str(value)):
            raise SettingsError(
                f"connection {conn_id!r}: {option!r} refers to a file or a variable of this host, "
                "which is not read for a connection: keep connections in a secrets backend of "
                "Airflow"
            )


def _token(extra: Mapping[str, object], conn_id: str) -> dict[str, str]:
    """Return what a client is given to get tokens as the provider does; nothing where none are.

    A connection that lacks them is refused by name when the first client is made.
    """
    wanted = extra.get("oauth_cb") or lacks_token(extra)
    if wanted and has_token(extra, conn_id=conn_id):
        return {"sasl.oauthbearer.config": conn_id}
    return {}


def _text(option: str, value: object, conn_id: str) -> str:
    if not isinstance(value, str | int | float):
        raise SettingsError(
            f"connection {conn_id!r}: option {option!r} cannot be used here, only text and numbers"
        )
    return str(value).lower() if isinstance(value, bool) else str(value)
