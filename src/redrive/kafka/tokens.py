"""Tokens for OAUTHBEARER from a function of the user's: `kafka.oauth`, for each client of ours.

The client calls it on a thread of its own, before a token runs out. MSK with IAM and Google's
managed Kafka want it so; an OpenID provider needs none, librdkafka asks it by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

import structlog

from redrive.errors import SettingsError
from redrive.imports import imported
from redrive.telemetry.redactor import BUILT_IN

__all__ = ["TokenFunction", "lacks_token", "msk_iam", "token_function"]

log = structlog.get_logger("redrive.kafka")

TokenFunction = Callable[[str], tuple[object, ...]]
"""Gets `sasl.oauthbearer.config`; returns the token and when it runs out, in seconds since 1970."""

_GIVES_TOKENS = ("sasl.oauthbearer.method", "enable.sasl.oauthbearer.unsecure.jwt")


def lacks_token(config: Mapping[str, object]) -> bool:
    """Say whether these options of librdkafka want a token, and nothing would give one."""
    mechanism = config.get("sasl.mechanism") or config.get("sasl.mechanisms")
    if str(mechanism).upper() != "OAUTHBEARER":
        return False
    gives = [str(config.get(option, "")).lower() for option in _GIVES_TOKENS]
    return gives[0] != "oidc" and gives[1] != "true"


def token_function(path: str) -> TokenFunction:
    """Return the function that `module:function` names; when it fails, that is logged.

    Raises:
        SettingsError: There is no such function.
    """
    function = imported(path, what="kafka.oauth")
    if not callable(function):
        raise SettingsError(f"kafka.oauth: {path!r} is no function, but {type(function).__name__}")

    def ask(config: str) -> tuple[object, ...]:
        try:
            return tuple(function(config))
        except Exception as error:
            # The client alone would say no more than that there is no token.
            log.error("kafka.no_token", oauth=path, error=BUILT_IN.mask(repr(error)))  # noqa: TRY400 - a traceback may hold secrets
            raise

    return ask


def msk_iam(config: str) -> tuple[str, float]:
    """Return a token for Amazon MSK with IAM, signed as the process is signed in to AWS.

    Args:
        config: The region, as `sasl.oauthbearer.config` has it.
    """
    try:
        signer = import_module("aws_msk_iam_sasl_signer")
    except ImportError as error:
        raise SettingsError(
            "redrive.kafka.tokens:msk_iam needs aws-msk-iam-sasl-signer-python: install it"
        ) from error
    if not config:
        raise SettingsError("set sasl.oauthbearer.config in kafka.config to the region of MSK")
    token, expires_ms = signer.MSKAuthTokenProvider.generate_auth_token(config)
    return token, expires_ms / 1000
