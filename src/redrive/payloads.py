"""A codec as records use it: from settings to the codec, from bytes to what stands in a record.

What is encrypted stands in a record as `{"redrive-codec": LABEL, "data": BASE64}`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redrive.codec import KEY_BYTES, Codec
from redrive.errors import CodecError, SettingsError
from redrive.imports import imported

__all__ = ["CLEAR", "MARK", "About", "Payloads", "Sealed", "codec_made", "key_bytes"]

MARK = "redrive-codec"
_DATA = "data"
_MAX_LABEL_CHARS = 200
_HEX_CHARS = 2 * KEY_BYTES

About = Sequence[str | None]
"""What names a record: its type, then its ids. What is encrypted for one is for no other."""


class Sealed(NamedTuple):
    """A payload that is encrypted: how, with which key, and the data in base64."""

    label: str
    data: str

    @classmethod
    def of(cls, value: object) -> Sealed | None:
        """Return what is encrypted in this value of a record; None where it is no such thing."""
        if not isinstance(value, Mapping) or value.keys() != {MARK, _DATA}:
            return None
        label, data = value[MARK], value[_DATA]
        if not isinstance(label, str) or not isinstance(data, str):
            return None
        return cls(label, data)

    @property
    def told(self) -> str:
        """Stand in the place of a text: that it is encrypted, and with which key."""
        return f"encrypted ({self.label[:_MAX_LABEL_CHARS]})"

    def as_json(self) -> dict[str, object]:
        """Return it as it stands in a record."""
        return {MARK: self.label, _DATA: self.data}


@dataclass(frozen=True, slots=True)
class Payloads:
    """Seals payloads, and opens them.

    Args:
        codec: What encrypts; None where nothing does.
        encodes: Whether it is to; without, it only decodes.
    """

    codec: Codec | None = None
    encodes: bool = True

    @property
    def label(self) -> str | None:
        """How what is written is encrypted; None where it is not."""
        return self.codec.label if self.codec is not None and self.encodes else None

    def seal(self, plain: bytes, about: About) -> Sealed:
        """Encrypt what belongs to one record.

        Raises:
            CodecError: There is no codec.
            Exception: Whatever a codec of the user's raises.
        """
        if self.codec is None:
            raise CodecError("there is no security.codec to encrypt with")
        label = self.codec.label
        return Sealed(label, base64.b64encode(self.codec.encode(plain, _bound(about))).decode())

    def open(self, sealed: Sealed, about: About) -> bytes:
        """Decrypt what belongs to one record.

        Raises:
            CodecError: There is no codec, or it cannot.
            Exception: Whatever a codec of the user's raises.
        """
        if self.codec is None:
            raise CodecError(
                f"it is encrypted as {sealed.label[:_MAX_LABEL_CHARS]!r}, and nothing here can "
                "decrypt it: set security.codec, and its key in security.encryption_keys"
            )
        try:
            data = base64.b64decode(sealed.data, validate=True)
        except (binascii.Error, ValueError):
            raise CodecError(
                f"what is encrypted as {sealed.label[:_MAX_LABEL_CHARS]!r} is not base64"
            ) from None
        return self.codec.decode(sealed.label, data, _bound(about))


CLEAR = Payloads()
"""Nothing is encrypted, and what is encrypted is not decoded."""


def codec_made(path: str, keys: Mapping[str, bytes], *, what: str) -> Codec:
    """Return what the codec's maker, which `path` names, makes of the keys.

    Raises:
        SettingsError: It cannot be imported or made; the message begins with `what`.
        MissingExtraError: AES-GCM needs `redrive[encryption]`.
    """
    make = imported(path, what=what)
    if not callable(make):
        raise SettingsError(f"{what}: {path!r} cannot be called: name what makes a codec")
    try:
        codec = make(keys)
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001 - the user's code
        # Without its text: who raised it held the keys.
        raise SettingsError(
            f"{what}: {path!r} raised {type(error).__name__} when it was called with the keys"
        ) from None
    able = all(callable(getattr(codec, name, None)) for name in ("encode", "decode"))
    label = getattr(codec, "label", None)
    if not able or not isinstance(label, str) or len(label) > _MAX_LABEL_CHARS:
        raise SettingsError(
            f"{what}: {path!r} made a {type(codec).__name__}, which is no codec: it needs label, "
            "encode and decode (see redrive.codec.Codec)"
        )
    made: Codec = codec
    return made


def key_bytes(text: str) -> bytes:
    """Return a key of 32 bytes, written in base64 or hex.

    Raises:
        ValueError: It is neither, or has another length.
    """
    text = text.strip()
    try:
        if len(text) == _HEX_CHARS:
            key = bytes.fromhex(text)
        else:
            standard = text.replace("-", "+").replace("_", "/")
            key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        raise ValueError(f"is neither base64 nor hex: {_MADE_BY}") from None
    if len(key) != KEY_BYTES:
        # Never a part of it. [P15]
        raise ValueError(f"has {len(key)} bytes, not {KEY_BYTES}: {_MADE_BY}")
    return key


_MADE_BY = "`openssl rand -base64 32` makes one"


def _bound(about: About) -> bytes:
    # A list, not a joined text: no two records have an equal one, whatever their ids hold.
    return json.dumps(list(about), ensure_ascii=True, separators=(",", ":")).encode()
