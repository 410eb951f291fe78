"""Masking never raises, changes nothing twice, and takes a time that grows with the text alone."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows
from tests.secret_kinds import HOSTILE

from redrive.telemetry.escapes import unescaped
from redrive.telemetry.personal import PATTERNS as PERSONAL
from redrive.telemetry.personal import Personal
from redrive.telemetry.redactor import BUILT_IN, Redactor
from redrive.telemetry.secrets import PATTERNS

LENGTH = 60_000
# Seconds; it takes a fifth of one. Where the time grew with the square, it would take hours.
PATIENCE_S = 60

PIECES = (
    *("password", "token", "key", "api_key", "secret", "Authorization", "cookie", "aws "),
    *("]", "--token ", '"name": ', "value"),
    *(" ", "\n", "=", ":", ": ", "=>", ",", ";", "&", "?", "@", '"', "'", "\\", "b'", "(", ")"),
    *("://", "http", "a:b@", "12345/", "Bearer ", "Basic ", "None", "IDENTIFIED BY ", " -u a:"),
    *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "[redacted:x]", "x", "hunter2"),
    *("sk-abcdefghijklmnopqrst1", "eyJabcdefgh.ab.cd", "AKIAABCDEFGHIJKL", "wJ4/" * 10),
    *("%3D", "%22", "%25", "\\u0022", "\\x3d", "&quot;", "&amp;", "<password>", "</"),
    *("Digest ", "username=", "API key ", "mysql -p", "pass:", "Password=a b;", "name: password\n"),
)  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


@given(texts | st.text(st.characters()))
def test_masking_twice_is_masking_once(text: str) -> None:
    masked = BUILT_IN.mask(text)

    assert BUILT_IN.mask(masked) == masked


@given(texts | st.text(st.characters()))
def test_what_is_unescaped_knows_where_it_stood(text: str) -> None:
    view = unescaped(text)

    if view is None:
        return
    places = [view.place(at) for at in range(len(view.text) + 1)]
    assert places == sorted(set(places))
    assert (places[0], places[-1]) == (0, len(text))
    assert all(
        view.text[at] == text[place : places[at + 1]]
        for at, place in enumerate(places[:-1])
        if places[at + 1] == place + 1
    )


@pytest.mark.invariant("P11")
@rows(
    "piece",
    ['"', "a=", "{", "a", "password=", "token: ", "pass:", "%2525", "eyJaaaaaa-", "a@a.", "+4 "],
)
def test_a_long_hostile_text_is_masked_in_time(piece: str) -> None:
    masked_in_time(piece)


@pytest.mark.nightly
@rows("piece", HOSTILE)
def test_every_long_hostile_text_is_masked_in_time(piece: str) -> None:
    masked_in_time(piece)


def masked_in_time(piece: str) -> None:
    start = "private key aws token pass: login secret value mysql api key "
    text = (start + piece * (LENGTH // len(piece)))[:LENGTH]

    began = time.monotonic()
    Redactor(personal=Personal).mask(text)

    assert time.monotonic() - began < PATIENCE_S


# So many characters are looked at for one place at most, before it is given up.
MOST_TRIED = 2_200
_parser: Any = importlib.import_module("re._parser")


@pytest.mark.invariant("P11")
@rows("pattern", [*PATTERNS, *PERSONAL], ids=lambda pattern: pattern.pattern[:60])
def test_nothing_can_fail_behind_a_repetition_without_a_limit(pattern: re.Pattern[str]) -> None:
    """Linear by construction: no place of a text costs more than a stated number of characters.

    A repetition either has a limit, or what it took is never given back (it is possessive, and
    begins only where its run does), or nothing that could fail stands behind it.
    """
    flaws = list(_flaws(list(_parser.parse(pattern.pattern, pattern.flags)), can_fail=False))

    assert flaws == []


def _flaws(parsed: list[tuple[Any, Any]], *, can_fail: bool) -> Iterable[str]:
    """Yield what may be tried for long, and then fail; `can_fail` says what stands behind."""
    for number, (what, inner) in enumerate(parsed):
        behind = can_fail or any(_may_fail(one) for one in parsed[number + 1 :])
        match str(what):
            case "MAX_REPEAT" | "MIN_REPEAT":
                _, most, repeated = inner
                if most > MOST_TRIED and behind:
                    yield f"{what} up to {most}, and what follows may fail"
                yield from _flaws(list(repeated), can_fail=most > 1 or behind)
            case "POSSESSIVE_REPEAT":
                # Inside, what one turn took may still be given back by that turn alone.
                yield from _flaws(list(inner[2]), can_fail=True)
            case "SUBPATTERN":
                yield from _flaws(list(inner[3]), can_fail=behind)
            case "ATOMIC_GROUP":
                yield from _flaws(list(inner), can_fail=True)
            case "ASSERT" | "ASSERT_NOT":
                yield from _flaws(list(inner[1]), can_fail=True)
            case "BRANCH":
                for branch in inner[1]:
                    yield from _flaws(list(branch), can_fail=behind)


def _may_fail(one: tuple[Any, Any]) -> bool:
    what, inner = str(one[0]), one[1]
    match what:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return bool(inner[0] > 0)
        case "SUBPATTERN":
            return any(map(_may_fail, inner[3]))
        case "BRANCH":
            return all(any(map(_may_fail, branch)) for branch in inner[1])
        case _:
            return True


def test_an_excerpt_of_a_long_word_takes_no_longer_than_one_of_many_words() -> None:
    def took_s(text: str) -> float:
        began = time.process_time()
        BUILT_IN.excerpt(text, 500)
        return time.process_time() - began

    words, word = "word " * 50_000, "x" * 250_000

    # The best of three, as other processes want their time too.
    best_s = [min(took_s(text) for _ in range(3)) for text in (word, words)]

    assert best_s[0] < 20 * best_s[1]
