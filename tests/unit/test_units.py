"""Durations, sizes and moments: absurd ones are refused by name, or shown as what can be shown."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from tests.rows import rows

from redrive.clock import later, moment
from redrive.units import LONGEST, Duration, Listed, named_duration, parse_duration, parse_size

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Limits(BaseModel):
    run: Duration


class Names(BaseModel):
    of: Listed[str] | None = None


@rows(
    "given_",
    [
        -1,
        -1e30,
        1e30,
        10**400,
        math.inf,
        -math.inf,
        math.nan,
        timedelta.max,
        timedelta(seconds=-1),
        "9" * 400,
        "1" + "0" * 30 + "d",
        "-5s",
        "nan",
        "",
        True,
        None,
    ],
)
def test_an_absurd_duration_is_refused_by_name(given_: object) -> None:
    with pytest.raises(ValueError, match=r"^timeout: "):
        named_duration("timeout", given_)
    with pytest.raises(ValidationError, match="run"):
        Limits.model_validate({"run": given_})


def test_the_longest_duration_is_still_a_time_ahead() -> None:
    assert parse_duration(f"{LONGEST.days}d") == LONGEST
    assert datetime.max.replace(tzinfo=UTC) > NOW + LONGEST


def test_an_absurd_size_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size("9" * 400 + "GiB")


@given(st.integers() | st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_of_milliseconds_is_a_moment_that_can_be_shown(epoch_ms: float) -> None:
    at = moment(epoch_ms)

    assert at.isoformat()
    assert at - timedelta(hours=1) < at < at + timedelta(hours=1)


def test_a_usual_moment_is_what_it_was() -> None:
    assert moment(1_767_268_800_123) == datetime(2026, 1, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    assert moment(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert later(NOW, 1.5) == NOW + timedelta(seconds=1.5)


@rows("given_", ["one two", "one, two", " one,two ", ["one", "two"], ("one", "two")])
def test_a_list_comes_as_one_or_as_text_with_spaces_or_commas(given_: object) -> None:
    assert Names.model_validate({"of": given_}).of == ("one", "two")


def test_an_empty_text_is_an_empty_list_and_none_is_none() -> None:
    assert (Names.model_validate({"of": ""}).of, Names(of=None).of) == ((), None)


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(ValidationError):
        Names.model_validate({"of": 3})
