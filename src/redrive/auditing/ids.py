"""Ids packed into few bytes: millions are held at a time.

A UUID in its usual form takes 17 bytes, other text its own length, and how often an event was
driven a few more.
"""

from __future__ import annotations

import re
from uuid import UUID

__all__ = ["pack", "unpack"]

_USUAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID, _TEXT = b"u", b"t"
_UUID_END = 17
_END = b"\x00"


def pack(text: str, count: int = 0) -> bytes:
    """Return bytes that stand for this id, and for how often its event was driven."""
    driven = b"%d" % count if count else b""
    if _USUAL.fullmatch(text):
        return _UUID + bytes.fromhex(text.replace("-", "")) + driven
    # A zero byte ends the text, and so may not be in it.
    kept = text.encode("utf-8", "surrogatepass").replace(b"\x01", b"\x01\x02")
    return _TEXT + kept.replace(_END, b"\x01\x03") + _END + driven


def unpack(packed: bytes) -> tuple[str, int]:
    """Return the id and the count."""
    if packed[:1] == _UUID:
        text, driven = str(UUID(bytes=packed[1:_UUID_END])), packed[_UUID_END:]
    else:
        kept, _, driven = packed[1:].partition(_END)
        kept = kept.replace(b"\x01\x03", _END).replace(b"\x01\x02", b"\x01")
        text = kept.decode("utf-8", "surrogatepass")
    return text, int(driven or b"0")
