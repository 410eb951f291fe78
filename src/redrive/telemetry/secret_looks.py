"""How a value looks: random, made up by somebody, a word, or something in its place.

All that decides whether what stands behind a secret's name, or where a secret would stand, is one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

from redrive.secret_values import is_reference
from redrive.telemetry.secret_names import NamedValue, Says

__all__ = [
    "LOOKS_PATTERNS",
    "PROSE",
    "is_mark",
    "is_mixed",
    "is_told",
    "looks_generated",
    "looks_given",
    "looks_random",
    "mark",
]


def mark(what: str) -> str:
    """Return what stands for a secret that is masked."""
    return f"[redacted:{what}]"


_IS_MARK = re.compile(r"\[redacted:[\w-]{1,40}\]")


def is_mark(value: str) -> bool:
    """Say whether it has been masked already."""
    return _IS_MARK.fullmatch(value) is not None


_NO_SECRETS = frozenset({"none", "null", "nil", "true", "false", "undefined", "", "...", "…"})

_IN_ITS_PLACE = re.compile(
    r"\[redacted:[\w-]{1,40}\]|\*{2,}|x{4,}|<[\w .-]{1,60}>?|\{\{?[\w .-]{1,60}\}{0,2}"
    r"|\$\{\w{1,60}\}?|(?-i:\$[A-Z_][A-Z0-9_]{2,60})|%s|%\(\w{1,60}\)s|(?:self|settings|config|os|cfg|args|env)\.[\w.]{1,100}(?:[\[(].{0,60})?"
    r"|[\w.]{0,60}get_secret_value\(\)?",
    re.IGNORECASE,
)

_MOST_IN_PLACE_CHARS = 220


def is_told(said: NamedValue, value: str, *, sure: bool = True) -> bool:
    """Say whether a value is a secret; one such as None tells more as it is.

    Args:
        said: What its name says.
        value: The value.
        sure: Whether a token is one unless it is a number; else it has to look like one.
    """
    if value.lower() in _NO_SECRETS or _stands_for_one(value):
        return False
    match said.says:
        case Says.SURE:
            return True
        case Says.LIKELY:
            return looks_random(value, least=_LEAST_LIKELY_CHARS) or bool(_UUID.fullmatch(value))
        case Says.TOKEN:
            if not sure:
                return looks_random(value) or bool(_UUID.fullmatch(value))
            return not (value.isdecimal() and len(value) <= _MOST_COUNTED_CHARS)
        case Says.MAYBE:
            hashed = said.what in _OF_RECORDS and _HASH.fullmatch(value) is not None
            return looks_random(value) and not hashed and not _is_name(value)


def _stands_for_one(value: str) -> bool:
    """Say whether it is a mark, a reference, a variable, or a blank in a template."""
    return len(value) <= _MOST_IN_PLACE_CHARS and (
        is_reference(value) or _IN_ITS_PLACE.fullmatch(value) is not None
    )


# Keys and signatures of records, caches and packages are hashes; codes are commits.
_OF_RECORDS = frozenset({"key", "code", "signature", "sig"})

_MOST_COUNTED_CHARS, _LEAST_LIKELY_CHARS = 12, 12

_NAME_OF_PARTS = re.compile(r"[a-z0-9]{1,64}(?:-[a-z0-9]{1,64}){1,16}")

_LEAST_WORD_CHARS = 4


def _is_name(value: str) -> bool:
    """Say whether it is a name with a word in it: `oauth2-proxy-7f9c4d5b6f-x2k9q`."""
    return _NAME_OF_PARTS.fullmatch(value) is not None and any(
        part.isalpha() and len(part) >= _LEAST_WORD_CHARS for part in value.split("-")
    )


_MIXED_WORDS = re.compile(
    r"v?\d[\d.]*[a-z]{0,3}|sha-?\d{1,3}|md[45]|utf-?\d{1,2}|base(?:32|58|64)|x509|(?:pkcs|oauth)-?\d{1,2}"
    r"|\d{4}-\d\d-\d\d.*|[^@\s]+@[\w-]+\.[\w.-]+|#?\d+|0x[0-9a-f]+",
    re.IGNORECASE,
)

_NUMBERED = re.compile(r"[a-z]{1,12}v?\d{1,3}", re.IGNORECASE)

_OF_PLACES = frozenset("./")

_OF_PASSWORDS = frozenset("!#$%^&*+~?@")


def looks_given(word: str, *, password: bool = True) -> bool:
    """Say whether somebody made it up: letters with digits or signs, as no word of a sentence.

    A version, a hash's name or a place is none. Where no `password` is spoken of, neither is a name
    with a number (`user42`, `db-creds-2`).
    """
    if _MIXED_WORDS.fullmatch(word) or _UUID.fullmatch(word) or _stands_for_one(word):
        return False
    chars = set(word)
    if not any(map(str.isalpha, chars)):
        return False
    if not chars.isdisjoint(_OF_PASSWORDS):
        return True
    if not any(map(str.isdecimal, chars)) or not chars.isdisjoint(_OF_PLACES):
        return False
    return password or not (
        "-" in chars or "_" in chars or _NUMBERED.fullmatch(word) or _HASH.fullmatch(word)
    )


# Below: no key is shorter, and words of a text are seldom so mixed.
_LEAST_CHARS, _LEAST_BITS = 15, 2.8

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_HASH = re.compile(r"(?:sha\d{1,3}[-:])?[0-9a-f]{7,128}", re.IGNORECASE)

_ONE_WORD = re.compile(r"[\w.~+/=%*$!^-]+")


def looks_random(value: str, *, least: int = _LEAST_CHARS) -> bool:
    """Say whether a value is hardly a word, a path, a name in a program or a UUID."""
    if len(value) < least or not _ONE_WORD.fullmatch(value) or _UUID.fullmatch(value):
        return False
    if value.isupper() and "_" in value:
        return False  # The code of an error.
    if not any(char.isdecimal() for char in value) or not any(char.isalpha() for char in value):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= _LEAST_BITS


_LEAST_GENERATED_CHARS, _LEAST_OF_ONE_CASE_CHARS = 6, 14
_LEAST_CHANGES, _LEAST_CHANGES_WITH_DIGITS, _LEAST_CHANGES_OF_ONE_CASE = 0.4, 0.25, 0.1
_MANY_DIGIT_GROUPS, _LONG_CHARS = 3, 28


def looks_generated(text: str) -> bool:
    """Say whether dice wrote these letters and digits: no word or name changes kind so often.

    Of 62 characters, two neighbours are of another kind (digit, small, large) at 62 of 100 places;
    in `HelloWorld2` at 40, but such names have one group of digits, or two.
    """
    if len(text) < _LEAST_GENERATED_CHARS:
        return False
    kinds = [_kind(char) for char in text]
    changes = [to for one, to in pairwise(kinds) if one != to]
    share = len(changes) / (len(text) - 1)
    groups = changes.count("digit")
    if "digit" not in kinds or len(set(kinds)) == 1:
        return False
    if len(set(kinds)) == 3:  # noqa: PLR2004 - there are three
        many = groups >= _MANY_DIGIT_GROUPS and share >= _LEAST_CHANGES_WITH_DIGITS
        return many or share >= _LEAST_CHANGES
    # A long run without a sign is no name.
    least = _MANY_DIGIT_GROUPS - 1 if len(text) >= _LONG_CHARS else _MANY_DIGIT_GROUPS
    return (
        len(text) >= _LEAST_OF_ONE_CASE_CHARS
        and share >= _LEAST_CHANGES_OF_ONE_CASE
        and groups >= least
    )


def _kind(char: str) -> str:
    return "digit" if char.isdecimal() else "small" if char.islower() else "large"


def is_mixed(value: str) -> bool:
    """Say whether it has small letters, large ones and digits."""
    return (
        any(char.islower() for char in value)
        and any(char.isupper() for char in value)
        and any(char.isdecimal() for char in value)
    )


PROSE = frozenset(
    {
        *("required", "missing", "invalid", "field", "not", "is", "must", "incorrect", "wrong"),
        *("expired", "unknown", "empty", "denied", "the", "rejected", "a", "an", "no"),
        *("authentication", "error", "failed", "does", "was", "has", "cannot", "could", "should"),
        *("str", "bytes", "int", "bool", "object", "any", "string", "secretstr", "optional[str]"),
        *("str|none", "and", "or", "to", "for", "on", "in", "at", "by", "it", "this", "you"),
        *("your", "please", "see", "use", "set", "unset", "input", "value", "too", "command"),
        *("called", "against", "with", "method", "ok", "yes"),
    }
)
"""Words with which a sentence goes on behind the name of a secret."""

LOOKS_PATTERNS = (_IN_ITS_PLACE, _NAME_OF_PARTS)
