"""The event of a letter: its record as it lay on its topic, byte for byte.

Bytes are base64 in JSON; a large value may be packed by zlib. What is left out of a letter that
would be larger than its topic allows is in `redrive.dead_letter.shortened`.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from redrive.events import MAX_EVENT_BYTES, RawHeaders, readable_event_id

__all__ = [
    "Base64Bytes",
    "LeftOut",
    "Source",
    "event_name",
    "source_digest",
    "unpacked",
    "value_digest",
]

_DIGEST_BYTES = 16
_HEX = rf"^[0-9a-f]{{{2 * _DIGEST_BYTES}}}$"


def _from_base64(value: object) -> object:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


Base64Bytes = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(lambda value: base64.b64encode(value).decode("ascii"), when_used="json"),
]


def _is_none(value: object) -> bool:
    return value is None


class _SourcePart(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class LeftOut(_SourcePart):
    """What is known of an event that no letter could hold: it lies at its place, if it still does.

    Attributes:
        event_id: The event's id, where it could be read.
        value_digest: What names an event without an id (see `event_name`).
        digest: That of the whole record (see `source_digest`).
        value_bytes: How long the value was.
        headers: How many headers there were.
        excerpt: How the value began.
    """

    event_id: str | None
    value_digest: str = Field(pattern=_HEX)
    digest: str = Field(pattern=_HEX)
    value_bytes: int = Field(ge=0)
    headers: int = Field(ge=0)
    excerpt: Base64Bytes


class Source(_SourcePart):
    """The event's record as it lay on its topic, byte for byte.

    Where the letter would be too large for its topic, `packed` is the value by zlib; who reads it
    finds `value` again. What does not fit even so is left out, and `left_out` says so.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int | None = None
    key: Base64Bytes | None = None
    headers: list[tuple[str, Base64Bytes | None]] = Field(default_factory=list)
    value: Base64Bytes | None = None
    packed: Base64Bytes | None = Field(default=None, exclude_if=_is_none)
    left_out: LeftOut | None = Field(default=None, exclude_if=_is_none)

    @model_validator(mode="after")
    def _unpack(self) -> Self:
        if self.packed is None:
            return self
        return self.model_copy(update={"value": unpacked(self.packed), "packed": None})

    @property
    def whole_value(self) -> bytes | None:
        """The value, also of a source that is packed to be written."""
        return self.value if self.packed is None else unpacked(self.packed)

    @property
    def event_name(self) -> str:
        """What `event_name` says of the event, also where the letter does not hold it."""
        if self.left_out is None:
            return event_name(self.whole_value)
        return self.left_out.event_id or self.left_out.value_digest

    @property
    def digest(self) -> str:
        """What `source_digest` says of the event, also where the letter does not hold it."""
        if self.left_out is None:
            return source_digest(self.key, self.whole_value, self.headers)
        return self.left_out.digest


def event_name(value: bytes | None) -> str:
    """Return the event's id, or a digest of its bytes where that cannot be read."""
    return readable_event_id(value) or value_digest(value)


def value_digest(value: bytes | None) -> str:
    """Return the digest that names an event whose id cannot be read."""
    return hashlib.blake2b(value or b"", digest_size=_DIGEST_BYTES).hexdigest()


def source_digest(key: bytes | None, value: bytes | None, headers: RawHeaders) -> str:
    """Return the digest of a record that came from a topic: equal bytes have an equal one."""
    whole = repr((key, value, [(name, text) for name, text in headers])).encode()
    return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).hexdigest()


def unpacked(packed: bytes) -> bytes:
    """Return a value that was packed.

    Raises:
        ValueError: It is not whole, or larger than any that is packed.
    """
    try:
        work = zlib.decompressobj()
        value = work.decompress(packed, MAX_EVENT_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"the packed value cannot be read: {error}") from error
    if not work.eof or len(value) > MAX_EVENT_BYTES:
        raise ValueError(f"the packed value is cut, or has more than {MAX_EVENT_BYTES} bytes")
    return value
