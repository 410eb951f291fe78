"""A message without its values: what is left is the sentence that its code wrote."""

from __future__ import annotations

import re

__all__ = ["normalised"]

MAX_CHARS = 512
_VALUE = "<>"

_UNIT = (
    r"(?:\s?(?:ns|us|µs|ms|s|sec|secs|seconds?|milliseconds?|m|mins?|minutes?|h|hrs?|hours?|days?"
    r"|b|bytes?|[kmgt]i?b|[kmgt]|%)(?!\w))?"
)
_ISO = (
    r"\d{4}-\d\d-\d\d(?:[t ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?"
    r"(?:\s?(?:z|utc|gmt|[+-]\d\d:?\d\d))?)?"
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_HTTP_DATE = (
    rf"(?:(?:mon|tue|wed|thu|fri|sat|sun)\w*,?\s)?\d{{1,2}}[\s-]{_MONTH}\w*[\s-]\d{{2,4}}"
    r"(?:\s\d\d:\d\d:\d\d)?(?:\s(?:gmt|utc|[+-]\d{4}))?"
)

# An apostrophe inside a word (don't) opens nothing, nor does an escaped quote.
_QUOTED = (
    r"[bru]{0,2}(?<!\\)\"(?:[^\"\\]|\\.)*\"|(?<![\w\\])[bru]{0,2}(?<!\\)'(?:[^'\\]|\\.)*'(?!\w)"
    r"|`[^`]*`|“[^“”]*”"
)

# In this order: each takes what the next would take apart. All begin where no other can.
_VALUES = tuple(
    re.compile(pattern)
    for pattern in (
        r"\[redacted:[\w-]+\]",
        _QUOTED,
        # Quoted within quotes that are gone: JSON in JSON.
        r"\\{1,4}\"[^\"\\]*\\{1,4}\"",
        # A path, with or without a drive; a relative one that ends like a file.
        r"(?<![\w.~:/\\-])(?:[a-z]:[\\/]|\\\\|~?/|\.{1,2}/)[^\s\"'<>|,;()]+",
        r"(?<![\w./-])[\w.-]+(?:/[\w.-]+)*/[\w-]*\.[a-z]\w{0,7}(?![\w./])",
        # E-mail addresses.
        r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
        _ISO,
        _HTTP_DATE,
        # IPv6.
        r"(?<![\w:])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])",
        # Numbers with their units, versions, IPv4, ports.
        rf"(?<![\w.])[+-]?\d[\d.,_:]*(?:e[+-]?\d+)?{_UNIT}(?![\w-])",
        # Hexadecimal: an id may lack digits.
        r"(?<![\w-])[0-9a-f]{8,}(?:-[0-9a-f]{4,}){0,5}(?![\w-])",
        # Words with a digit: ids, hosts, models.
        r"(?<![\w-])[^\W\d]*(?:-[^\W\d]*)*\d[\w-]*(?:\.[\w-]*\d[\w-]*)*",
    )
)
_URL = re.compile(
    r"([a-z][a-z0-9+.-]{0,20}://)(?:[^\s/@\"'<>]{0,256}@)?([^\s/:?#\"'<>]*)[^\s\"'<>]*"
)
_SERIES = re.compile(r"<>(?:[\s,;:/|+-]*<>)+")


def normalised(message: str) -> str:
    """Return the message in lower case, each value of it as `<>`, on one line, cut.

    Of a URL stay scheme and host. Series of values count as one, however long.
    """
    text = _URL.sub(r"\1\2 <>", message.lower())
    for pattern in _VALUES:
        text = pattern.sub(_VALUE, text)
    text = _SERIES.sub(_VALUE, " ".join(text.split()))
    return text[:MAX_CHARS]
