"""Keys of makers that no table knows: a short prefix, and behind it what only dice write.

`acme_live_4eC39HqLyjWDarjtT1zdp7dc`: what speaks for a key is what its prefix says (`live`, `sk`,
`token`), or that so much of it is random. Ids of requests, messages and packages have the same
form: what their prefix says speaks against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redrive.telemetry.secret_keys import Span, end_of_word
from redrive.telemetry.secret_looks import looks_generated

__all__ = ["PREFIXED_PATTERNS", "prefixed_in"]

_WHAT = "api-key"
# A word with a part of at most 15 letters before its first sign, and with a digit soon.
_WORD = re.compile(
    r"(?:(?<![\w.~+\\-])|(?<=\\[nrt]))(?=[A-Za-z][A-Za-z0-9]{1,14}[_.~-])"
    r"(?=[A-Za-z_.~-]{1,80}[0-9])[\w.~-]{16,}+",
    re.ASCII,
)
# A digit in a run of ten: few sentences have one.
_LEAST_UNBROKEN = 10
_HINT = re.compile(
    "[0-9](?:"
    + "|".join(
        rf"(?<=[A-Za-z0-9]{{{before}}})(?=[A-Za-z0-9]{{{_LEAST_UNBROKEN - before}}})"
        for before in range(1, _LEAST_UNBROKEN + 1)
    )
    + ")"
)
_PART = re.compile(r"[A-Za-z0-9]{1,256}")
_UUID = re.compile(r"[A-Za-z0-9]{8}(?:-[A-Za-z0-9]{4}){3}-[A-Za-z0-9]{12}")
# A word, with a number behind it: `live`, `v1`, `FLWSECK`, `na1`.
_PLAIN = re.compile(r"(?:[a-z]{1,15}|[A-Z]{1,15}|[A-Z][a-z]{1,15})\d{0,2}|\d{1,4}|[a-z]\d[a-z]")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
PREFIXED_PATTERNS = (_WORD, _HINT, _PART, _UUID, _PLAIN)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAYS_KEY = _words(
    "live sk pk ak rk pat key sec secret tok token tkn apikey pw pwd password svcacct license "
    "refresh sandbox oauth"
)
_SAYS_MAYBE = _words("api test prod private priv access auth client service sub pub sdk mob")
_SAYS_ID = _words(
    "cache lookup index s3 idempotency partition primary foreign sort routing message messages msg "
    "record hash "
    "chatcmpl cmpl req request call toolu tool thread run runs step asst file resp response rs fc "
    "evt event events conv batch session sess id ids trace span job task tasks ctx context image "
    "img sha sha1 sha224 sha256 sha384 sha512 md5 blake2 blake2b integrity org organization proj "
    "project user cus cu pi ch in price ft ftjob vs ws room channel page cursor etag nonce "
    "checkpoint snapshot snap vol ami eni sg subnet vpc lambda digest commit rev revision build "
    "chunk part node pod worker host container layer blob object obj tmp temp backup dump v "
    "version release tag branch feature bugfix fix dlq letter fingerprint deployment dpl zn"
)
_MOST_PREFIX_PARTS = 4
_MOST_JUDGED_CHARS = 256


def prefixed_in(text: str) -> Iterator[Span]:
    """Find keys of a prefix and a random body."""
    if _HINT.search(text) is None:
        return
    for found in _WORD.finditer(text):
        if _is_key(found[0][:_MOST_JUDGED_CHARS]):
            yield found.start(), end_of_word(text, found.end()), _WHAT


def _is_key(word: str) -> bool:
    prefix: list[str] = []
    for part in _PART.finditer(word):
        if prefix and not _PLAIN.fullmatch(part[0]):
            return _says_key(prefix, word[part.start() :])
        if len(prefix) == _MOST_PREFIX_PARTS:
            break
        prefix.append(part[0].lower())
    return False


def _says_key(prefix: list[str], body: str) -> bool:
    parts = _PART.findall(body)
    if "secret" in parts[1:]:  # A public id with a secret behind it.
        return True
    chars, is_uuid = "".join(parts), _UUID.match(body) is not None
    longest = max(parts, key=len)
    if not _SAYS_ID.isdisjoint(prefix) or not (is_uuid or _is_generated(chars, longest)):
        return False
    if not _SAYS_KEY.isdisjoint(prefix):
        return len(chars) >= _LEAST_OF_SURE
    if not _SAYS_MAYBE.isdisjoint(prefix):
        return len(chars) >= _LEAST_OF_MAYBE and not _is_hash(body)
    return len(chars) >= _LEAST_OF_RANDOM and not is_uuid and not _HEX.fullmatch(chars)


def _is_generated(chars: str, longest: str) -> bool:
    """Say whether all of it was, and so much without a sign that it is no row of words."""
    return len(longest) >= _LEAST_UNBROKEN and looks_generated(chars)


# A key's body has 96 bits and more: 16 of 62 characters. Without a word, 28 and more tell a key
# from ids of 22 to 27 characters.
_LEAST_OF_SURE, _LEAST_OF_MAYBE, _LEAST_OF_RANDOM = 14, 20, 28
_HASHES = frozenset({32, 40, 64, 96, 128})


def _is_hash(body: str) -> bool:
    return len(body) in _HASHES and _HEX.fullmatch(body) is not None
