"""What encrypts payloads: the contract of a codec, and the one that comes with redrive (AES-GCM).

A codec sees bytes: what they mean, and which of a record's fields they are, is
`redrive.sealed_records`'s and `redrive.dead_letter.sealing`'s affair. [P15]
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from redrive.errors import CodecError, MissingExtraError, SettingsError

__all__ = ["KEY_BYTES", "AesGcm", "Codec"]

KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_FORM = "aesgcm/1"


class Codec(Protocol):
    """Encodes and decodes payloads; `security.codec` names what makes one.

    It is made by a call with the keys of `security.encryption_keys`, by name, in their order: a
    codec that gets its keys elsewhere passes them by. It is called on a worker's event loop, so it
    returns at once, and from any thread.
    """

    @property
    def label(self) -> str:
        """Say in a few words how what it encodes now is encoded, and with which key."""
        ...

    def encode(self, plain: bytes, about: bytes) -> bytes:
        """Encode a payload of the record that `about` names."""
        ...

    def decode(self, label: str, data: bytes, about: bytes) -> bytes:
        """Return what was encoded, under this label, for the record that `about` names.

        Raises:
            CodecError: It cannot be decoded: the key is not here, or it was changed, or it belongs
                to another record.
        """
        ...


class AesGcm:
    """AES-256-GCM, with a nonce of its own for each payload.

    The label is `aesgcm/1 KEY`. The data is the nonce, 12 bytes, then what is encrypted, then the
    tag, 16 bytes; label and record are authenticated with it, so that nothing can be moved.

    Args:
        keys: By name, 32 bytes each: the first encrypts, all decrypt.

    Raises:
        SettingsError: There is none, or one has another length.
        MissingExtraError: `redrive[encryption]` is not installed.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as above
        except ImportError as error:
            raise MissingExtraError(module="cryptography", extra="encryption") from error
        if not keys:
            raise SettingsError(
                "AES-GCM needs a key: name one in security.encryption_keys, as "
                '2026 = "file:/run/secrets/redrive-2026"'
            )
        for name, key in keys.items():
            if len(key) != KEY_BYTES:
                raise SettingsError(
                    f"the key {name!r} has {len(key)} bytes: AES-256-GCM takes {KEY_BYTES}"
                )
        self._ciphers = {f"{_FORM} {name}": AESGCM(key) for name, key in keys.items()}
        self._label = next(iter(self._ciphers))
        self._wrong_tag = InvalidTag

    @property
    def label(self) -> str:
        """Its form, and the name of the first key."""
        return self._label

    def encode(self, plain: bytes, about: bytes) -> bytes:
        """Encrypt with the first key."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[self._label].encrypt(nonce, plain, _bound(self._label, about))

    def decode(self, label: str, data: bytes, about: bytes) -> bytes:
        """Decrypt with the key that the label names.

        Raises:
            CodecError: That key is not here; or it was changed, or is of another record.
        """
        cipher = self._ciphers.get(label)
        if cipher is None:
            here = ", ".join(self._ciphers)
            raise CodecError(
                f"it is encrypted as {label[:200]!r}, and only these are known: {here}. Name its "
                "key in security.encryption_keys"
            )
        if len(data) < _NONCE_BYTES + _TAG_BYTES:
            raise CodecError(f"what is encrypted as {label!r} is truncated")
        nonce, rest = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, rest, _bound(label, about))
        except self._wrong_tag:
            raise CodecError(
                f"what is encrypted as {label!r} was changed, or belongs to another record, or the "
                "key of that name is another one"
            ) from None


def _bound(label: str, about: bytes) -> bytes:
    return label.encode() + b"\n" + about
