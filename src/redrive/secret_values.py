"""Secrets among the settings: where the value of an option that holds one is.

Such an option takes the value, or says where it lies: `file:/run/secrets/kafka` or `env:NAME`. That
is read when it is needed, so a file may be changed while a worker runs. [P15]
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from redrive.errors import SettingsError

__all__ = ["is_reference", "revealed"]

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+")
_MOST_BYTES = 64 * 1024


def is_reference(value: str) -> bool:
    """Say whether this is no secret, but says where one is."""
    return _REFERENCE.fullmatch(value) is not None


def revealed(value: str, *, key: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the secret: the value itself, or what it refers to, read now.

    Args:
        value: As it was given. Of a file, one line end at its end does not belong to the secret.
        key: The setting that holds it, for errors.
        environ: The environment variables.

    Raises:
        SettingsError: The file cannot be read, or there is no such variable.
    """
    if not is_reference(value):
        return value
    kind, _, place = value.partition(":")
    if kind == "env":
        found = environ.get(place, "")
        if not found:
            raise SettingsError(f"{key}: the environment variable {place} is not set, or is empty")
        return found
    try:
        with Path(place).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise SettingsError(f"{key}: the file {place} cannot be read: {why}") from None
    if len(data) > _MOST_BYTES:
        raise SettingsError(f"{key}: the file {place} is larger than {_MOST_BYTES} bytes")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SettingsError(f"{key}: the file {place} is empty")
    return text
