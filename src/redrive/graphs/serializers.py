"""How checkpoints are serialised: LangGraph's own way, one of the user's, or encrypted."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from redrive.errors import MissingExtraError, SettingsError
from redrive.graphs.import_paths import first_line, import_target

if TYPE_CHECKING:
    from redrive.graphs.options import CheckpointSettings

__all__ = ["serializer_of"]

_KEY_BYTES = (16, 24, 32)


def serializer_of(settings: CheckpointSettings) -> SerializerProtocol | None:
    """Return what `checkpoints.serializer` and `checkpoints.encryption_key` ask for, or None.

    Checkpoints that were stored before there was a key are still read.

    Raises:
        SettingsError: It cannot be imported or made, or the key has no length of AES.
        MissingExtraError: Encryption needs `redrive[encryption]`.
    """
    inner = None if settings.serializer is None else _imported(settings.serializer)
    if settings.encryption_key is None:
        return inner
    key = settings.encryption_key.get_secret_value().encode()
    if len(key) not in _KEY_BYTES:
        raise SettingsError(
            f"checkpoints.encryption_key has {len(key)} bytes: AES takes 16, 24 or 32"
        )
    try:
        return EncryptedSerializer.from_pycryptodome_aes(
            serde=inner or JsonPlusSerializer(), key=key
        )
    except ImportError as error:
        raise MissingExtraError(module="pycryptodome", extra="encryption") from error


def _imported(target: str) -> SerializerProtocol:
    what = "checkpoints.serializer"
    found = import_target(target, what=what)
    if inspect.isclass(found) or (callable(found) and not isinstance(found, SerializerProtocol)):
        try:
            found = found()
        except Exception as error:
            raise SettingsError(
                f"{what}: {target} raised when it was called ({first_line(error)})"
            ) from error
    if not isinstance(found, SerializerProtocol):
        raise SettingsError(
            f"{what}: {target} is a {type(found).__name__}: name a serializer with dumps_typed and "
            "loads_typed, or what makes one without arguments"
        )
    return found
