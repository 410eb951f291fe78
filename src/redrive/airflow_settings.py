"""The settings `airflow.*`, which Airflow's tasks read from the environment. No Airflow in here."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from redrive.errors import SettingsError
from redrive.secret_values import is_reference, revealed

__all__ = ["ID_SECRET_KEY", "ID_SECRET_VARIABLE", "AirflowSettings", "id_secret_of"]

ID_SECRET_KEY = "airflow.id_secret"  # noqa: S105 - its name, not the secret
ID_SECRET_VARIABLE = "REDRIVE_AIRFLOW__ID_SECRET"  # noqa: S105 - as above
MIN_SECRET_CHARS = 32
"""A shorter secret could be found by trying: whoever reads one event can check a guess."""


class AirflowSettings(BaseModel):
    """Settings of Airflow tasks that send events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id_secret: SecretStr | None = Field(
        None,
        description="A secret that makes the ids of tasks' events unguessable: at least 32 "
        "characters, the same wherever tasks run, or `file:/…` or `env:…`. Only Airflow's tasks "
        "read it, and only from the variable; a connection's extra field may set "
        "`airflow.id_secret` instead.",
    )

    @field_validator("id_secret")
    @classmethod
    def _is_long_enough(cls, held: SecretStr | None) -> SecretStr | None:
        secret = None if held is None else held.get_secret_value()
        if secret and not is_reference(secret) and (why := _too_short(secret)):
            raise ValueError(why)
        return held


def id_secret_of(
    of_connection: object, *, conn_id: str, environ: Mapping[str, str] = os.environ
) -> bytes | None:
    """Return the secret that ids of events are made with; None where there is none.

    Args:
        of_connection: What the connection's extra field holds for it, which comes first.
        conn_id: The connection, for errors.
        environ: The environment variables.

    Raises:
        SettingsError: It is too short, no text, or what it refers to cannot be read.
    """
    if of_connection is not None:
        name, secret = f"connection {conn_id!r}: {ID_SECRET_KEY!r}", of_connection
    else:
        name, secret = ID_SECRET_VARIABLE, environ.get(ID_SECRET_VARIABLE) or None
        if secret is not None:
            secret = revealed(secret, key=ID_SECRET_VARIABLE, environ=environ)
    if secret is None:
        return None
    if not isinstance(secret, str):
        raise SettingsError(f"{name} must be text")
    if why := _too_short(secret):
        raise SettingsError(f"{name}: {why}")
    try:
        return secret.encode()
    except UnicodeEncodeError:
        # Without its text, which names characters of it. [P15]
        raise SettingsError(f"{name} must be text that is UTF-8") from None


def _too_short(secret: str) -> str | None:
    if len(secret) >= MIN_SECRET_CHARS:
        return None
    return (
        f"it has fewer than {MIN_SECRET_CHARS} characters: make one with "
        "`python -c 'import secrets; print(secrets.token_hex(32))'`"
    )
