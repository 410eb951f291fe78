"""Tokens for a Kafka connection of Airflow's, as the Kafka provider gets them.

What the provider does for a connection (a callback that it names and Airflow's configuration
allows, Amazon MSK with IAM, Google's managed Kafka) stays the provider's: it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from redrive.errors import SettingsError
from redrive.kafka.tokens import TokenFunction

__all__ = ["TOKEN_OF_CONNECTION", "has_token", "token"]

TOKEN_OF_CONNECTION = f"{__name__}:token"
"""As `kafka.oauth`; `sasl.oauthbearer.config` then is the connection's id."""

_known: dict[str, tuple[TokenFunction, str]] = {}


def has_token(extra: Mapping[str, object], *, conn_id: str) -> bool:
    """Say whether the provider has a way to tokens for this connection, and remember it.

    Raises:
        SettingsError: The provider is not there, or refuses the connection.
    """
    try:
        from airflow.providers.apache.kafka.hooks.base import (  # noqa: PLC0415 - an extra's
            KafkaBaseHook,
        )
    except ImportError as error:
        raise SettingsError(
            f"connection {conn_id!r} wants OAuth tokens, which the Kafka provider gets: install "
            "apache-airflow-providers-apache-kafka"
        ) from error

    class _Config(KafkaBaseHook):
        """The provider's own way from a connection to options; no client is made of them."""

        @classmethod
        def get_connection(cls, _: str) -> Any:  # noqa: ANN401 - the provider's
            return SimpleNamespace(extra_dejson=dict(extra))

        def _get_client(self, config: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
            return config

    try:
        found = _Config(conn_id).get_conn.get("oauth_cb")  # type: ignore[no-untyped-call]  # the provider's
    except Exception as error:
        raise SettingsError(
            f"connection {conn_id!r}: the Kafka provider has no tokens for it: {error}"
        ) from error
    if not callable(found):
        return False
    _known[conn_id] = found, str(extra.get("sasl.oauthbearer.config", ""))
    return True


def token(conn_id: str) -> tuple[object, ...]:
    """Return a token of this connection's, and when it runs out."""
    function, config = _known[conn_id]
    return tuple(function(config))
