"""All secrets of a text: keys by their form, what stands in a known place, what a name says.

Each finder takes linear time, and shows why: it begins at a hint or where a run of characters
begins; a repetition has a limit, or takes a whole run and cannot fail behind it; and what was
taken for a value is not looked at again, unless it holds no further name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redrive.secret_values import is_reference
from redrive.telemetry.prefixed_keys import PREFIXED_PATTERNS, prefixed_in
from redrive.telemetry.secret_forms import ANY_VALUE, BARE_GROUP, FORM_PATTERNS, FORMS, is_pair
from redrive.telemetry.secret_keys import KEY_PATTERNS, Span, end_of_word, keys_in
from redrive.telemetry.secret_looks import LOOKS_PATTERNS, PROSE, is_mark, is_told
from redrive.telemetry.secret_names import NamedValue, Says, said_by
from redrive.telemetry.secret_sentences import SENTENCE_PATTERNS, SENTENCES

__all__ = ["PATTERNS", "secret_named", "secrets_in"]


def secrets_in(text: str) -> Iterator[Span]:
    """Find every secret; spans may lie in each other."""
    lower = text.lower()
    yield from keys_in(text)
    yield from prefixed_in(text)
    for form in (*FORMS, *SENTENCES):
        if _any_in(lower, form.needs) and _any_in(lower, form.hints):
            yield from form.find(text, form)
    yield from _named(text)


def _any_in(text: str, hints: tuple[str, ...]) -> bool:
    for hint in hints:  # noqa: SIM110 - a generator takes three times as long
        if hint in text:
            return True
    return False


def secret_named(name: str, value: str) -> str | None:
    """Return what the value of this name is, where that is a secret; else None.

    A value that stands alone is no word of a program: only a reference stays, as `env:NAME`.
    """
    said = said_by(name)
    if said is None or not value or is_mark(value):
        return None
    if said.says is Says.SURE:
        return None if is_reference(value) else said.what
    return said.what if is_told(said, value) else None


# A name begins where a run of its characters does, takes all of it, and what parts it from its
# value follows: `=`, `: `, `=>`, `", "`; in JSON, in JSON within JSON, in a repr.
_ASSIGNMENT = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]++)"
    r"(?:(?:\\{0,4}[\"'`])?+\]?+\s{0,4}+(?:=>|->|:=|={1,3}|(?P<colon>:(?!//)))"
    r"|(?P<comma>(?:\\{0,4}[\"']),))\s{0,4}+"
)

_FULL = re.compile(ANY_VALUE)

# In a connection string values hold blanks: up to the semicolon.
_UP_TO_SEMICOLON = re.compile(r"(?P<value>[^;\"'\n]{1,256})(?=;|[\"'\n]|$)")

_NEXT_OF_STRING = re.compile(r"[^;\"'\n]{1,128};\s?[\w ]{1,30}=")

# No value of a weaker name holds another name, so that nothing is looked at twice.
_WORD = re.compile(
    r"(?:[bru]{0,2}\\{0,4}[\"'`])?"
    r"(?P<value>[\w.~+/%$!^*-]{1,4096}+(?:={1,2}[\w.~+/%$!^*-]{1,128}+){0,4}={0,2})"
)

_BEFORE_NAME = re.compile(r"([A-Za-z]{2,20})[ ]\Z")

_MOST_PROSE_CHARS = 64


def _named(text: str) -> Iterator[Span]:
    done = 0
    for found in _ASSIGNMENT.finditer(text):
        if found.start() < done:
            continue
        said = said_by(_whole_name(text, found))
        if said is None or (found["comma"] and not is_pair(text, found.start())):
            continue
        span = _value_behind(text, found, said)
        if span is not None:
            done = span[1]
            yield span


def _whole_name(text: str, found: re.Match[str]) -> str:
    """Return the name with the word before it: `API key:`."""
    name = found["name"]
    if name[-3:].lower() not in {"key", "ken"}:
        return name
    begins = found.start()
    before = _BEFORE_NAME.search(text[max(begins - 24, 0) : begins])
    return name if before is None else f"{before[1]}_{name}"


def _value_behind(text: str, found: re.Match[str], said: NamedValue) -> Span | None:
    at, colon = found.end(), bool(found["colon"])
    # Behind `token:` stands what a parser met, too.
    counted = said.says is Says.TOKEN and colon and _OPENS_QUOTES.match(text, at) is None
    if said.says in {Says.MAYBE, Says.LIKELY} or counted:
        word = _WORD.match(text, at)
        if word is None or not is_told(said, word["value"], sure=not counted):
            return None
        return word.start("value"), end_of_word(text, word.end("value")), said.what
    if not colon and _in_connection_string(text, found):
        until = _UP_TO_SEMICOLON.match(text, at)
        if until is not None and is_told(said, until["value"]):
            return *until.span("value"), said.what
    value = _FULL.match(text, at)
    if value is None:
        return None
    group = value.lastgroup or ""
    told = value[group]
    if colon and group == BARE_GROUP and _is_prose(text, found, told):
        return None
    return (*value.span(group), said.what) if told and is_told(said, told) else None


_OPENS_QUOTES = re.compile(r"[bru]{0,2}\\{0,4}[\"'`]")


def _in_connection_string(text: str, found: re.Match[str]) -> bool:
    before = text[max(found.start() - 2, 0) : found.start()]
    return ";" in before or _NEXT_OF_STRING.match(text, found.end()) is not None


def _is_prose(text: str, found: re.Match[str], value: str) -> bool:
    """Say whether a sentence goes on behind the colon: `password: field required`."""
    if len(value) > _MOST_PROSE_CHARS or text[found.end() - 1 : found.end()] not in {" ", "\n"}:
        return False
    return value.lower().rstrip(",.;:)]}") in PROSE


PATTERNS = (
    *KEY_PATTERNS,
    *PREFIXED_PATTERNS,
    *LOOKS_PATTERNS,
    *FORM_PATTERNS,
    *SENTENCE_PATTERNS,
    *(_ASSIGNMENT, _FULL, _WORD, _UP_TO_SEMICOLON, _NEXT_OF_STRING),
)
"""Every pattern that is built in, for the test that each takes linear time."""
