"""Signatures of records: who wrote one, and that nothing of it was changed or moved since.

HMAC-SHA256 over what the record is (event, letter, state, result), where it lies, its key, our
headers and the digest of its value, each with its length before it: no two records have one text.
Who signs and who verifies share a key, so each key belongs to one writer. Pure. [P15]
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

__all__ = [
    "MIN_KEY_BYTES",
    "NO_TRUST",
    "SIGNATURE_HEADER",
    "Judged",
    "Require",
    "Rights",
    "Signed",
    "SignedText",
    "Signer",
    "Subject",
    "Trust",
    "Unsigned",
    "Verifier",
    "Wrong",
    "is_key_name",
]

SIGNATURE_HEADER = "redrive-signature"
MIN_KEY_BYTES = 32
"""As long as the digest: a shorter key would be the weakest part."""
MAX_KEY_NAME_CHARS = 64

_VERSION = "v1"
_DOMAIN = b"redrive signature v1"
_OURS = "redrive-"
_LENGTH_BYTES = 8
_DIGEST_CHARS = 43
_KEY_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_KEY_NAME_CHARS - 1}}}")
_FORM = re.compile(rf"{_VERSION} (?P<key>{_KEY_NAME.pattern}) (?P<mac>[A-Za-z0-9_-]{{43}})")


class Subject(StrEnum):
    """What a record is; a signature of one is none of another."""

    EVENT = "event"
    LETTER = "letter"
    STATE = "state"


class Require(StrEnum):
    """What is done about records that are not signed, or wrongly."""

    OFF = "off"
    WARN = "warn"
    REFUSE = "refuse"


class SignedText(NamedTuple):
    """What of a record is signed; of its headers ours alone, in their order.

    Others add headers on the way, such as those of a trace.
    """

    subject: Subject
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    def to_bytes(self) -> bytes:
        """Return the text: each part with its length before it, and nothing told from empty."""
        return b"".join(_framed(part) for part in self._parts())

    def _parts(self) -> Iterator[bytes | None]:
        yield _DOMAIN
        yield self.subject.value.encode()
        yield _bytes(self.topic)
        yield str(self.partition).encode()
        yield self.key
        yield None if self.value is None else hashlib.sha256(self.value).digest()
        for name, value in self.headers:
            if name.startswith(_OURS) and name != SIGNATURE_HEADER:
                yield _bytes(name)
                yield value


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature fits; `key` is the name of whose it is."""

    key: str


@dataclass(frozen=True, slots=True)
class Unsigned:
    """There is no signature."""

    why: str = "it is not signed"


@dataclass(frozen=True, slots=True)
class Wrong:
    """There is one, and it does not count."""

    why: str


Judged = Signed | Unsigned | Wrong
_UNSIGNED = Unsigned()


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with one key."""

    key: str
    secret: bytes = field(repr=False)

    def sign(self, text: SignedText) -> tuple[str, bytes]:
        """Return the header that signs a record."""
        mac = base64.urlsafe_b64encode(_mac(self.secret, text)).rstrip(b"=")
        return SIGNATURE_HEADER, b"%b %b %b" % (_VERSION.encode(), self.key.encode(), mac)

    @property
    def room(self) -> tuple[str, bytes]:
        """A header as long as any that `sign` returns, for those who count bytes before."""
        return SIGNATURE_HEADER, f"{_VERSION} {self.key} {'-' * _DIGEST_CHARS}".encode()


@dataclass(frozen=True, slots=True)
class Rights:
    """What a key may do: start workflows that fit one of these patterns; speak of letters."""

    workflows: tuple[str, ...] = ("*",)
    letters: bool = True


_ALL_RIGHTS = Rights()


@dataclass(frozen=True, slots=True)
class Verifier:
    """Judges signatures, with all keys that are known here.

    Args:
        keys: The secrets, by the names of their keys.
        require: What is done about what is not signed.
        rights: Of keys that may not do everything.
    """

    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    require: Require = Require.OFF
    rights: Mapping[str, Rights] = field(default_factory=dict)

    @property
    def refuses(self) -> bool:
        """Whether only signed records are accepted."""
        return self.require is Require.REFUSE

    def judge(self, text: SignedText) -> Judged:
        """Say whether a record bears a signature of its own, and whose."""
        found = [value for name, value in text.headers if name == SIGNATURE_HEADER]
        if not found:
            return _UNSIGNED
        form = _FORM.fullmatch(_text(found[0])) if len(found) == 1 else None
        if form is None:
            return Wrong(f"header {SIGNATURE_HEADER!r} is not '{_VERSION} KEY SIGNATURE', once")
        key = form["key"]
        why = self._mismatch(key, form["mac"], text)
        return Signed(key) if why is None else Wrong(why)

    def _mismatch(self, key: str, mac: str, text: SignedText) -> str | None:
        secret = self.keys.get(key)
        if secret is None:
            return f"key {key!r} is not known here (security.signing_keys)"
        if not hmac.compare_digest(_mac(secret, text), _decoded(mac)):
            return (
                f"the signature of key {key!r} does not fit: the record was changed, or lay "
                "elsewhere, or the key is another one"
            )
        if text.subject is not Subject.EVENT and not self.rights_of(key).letters:
            return f"key {key!r} may not sign letters (security.producers.{key}.letters)"
        return None

    def believes(self, judged: Judged) -> bool:
        """Say whether a record counts that was judged so."""
        return not self.refuses or isinstance(judged, Signed)

    def may_start(self, key: str, workflow_id: str) -> bool:
        """Say whether an event that this key has signed may start this workflow."""
        patterns = self.rights_of(key).workflows
        return any(fnmatchcase(workflow_id, pattern) for pattern in patterns)

    def rights_of(self, key: str) -> Rights:
        """Return what a key may do: everything, where nothing else is set."""
        return self.rights.get(key, _ALL_RIGHTS)


@dataclass(frozen=True, slots=True)
class Trust:
    """Who signs what is written here, and what is believed of what is read."""

    signer: Signer | None = None
    verifier: Verifier = field(default_factory=Verifier)


NO_TRUST = Trust()
"""Nothing is signed, and nothing has to be."""


def is_key_name(name: str) -> bool:
    """Say whether a key may be called so: it stands between blanks in a header."""
    return _KEY_NAME.fullmatch(name) is not None


def _mac(secret: bytes, text: SignedText) -> bytes:
    return hmac.digest(secret, text.to_bytes(), "sha256")


def _framed(part: bytes | None) -> bytes:
    if part is None:
        return b"\x00"
    return b"\x01" + len(part).to_bytes(_LENGTH_BYTES, "big") + part


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("ascii", "replace")


def _decoded(mac: str) -> bytes:
    try:
        found = base64.urlsafe_b64decode(mac + "=")
    except (ValueError, binascii.Error):
        return b""
    # The last sign has bits to spare: only one spelling of a signature is one.
    return found if base64.urlsafe_b64encode(found).decode().rstrip("=") == mac else b""
