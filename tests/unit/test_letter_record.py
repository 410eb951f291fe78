"""What of an exception a letter keeps, within which limits; older letters can be read."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from redrive.dead_letter.record import DeadLetter, cause_chain, letter_error


def types_of(error: BaseException) -> list[str]:
    return [cause.type for cause in cause_chain(error)]


def chained(*errors: BaseException) -> BaseException:
    """Return the last of them, each caused by the one before it."""
    for cause, error in pairwise(errors):
        error.__cause__ = cause
    return errors[-1]


def test_the_root_stands_first() -> None:
    assert types_of(chained(OSError(), KeyError(), ValueError())) == [
        "OSError",
        "KeyError",
        "ValueError",
    ]


def test_members_of_a_group_stand_before_it_in_their_order_each_behind_its_cause() -> None:
    first = chained(OSError("a"), KeyError("b"))
    assert isinstance(first, Exception)
    error = ExceptionGroup("two", [first, IndexError("c")])

    assert types_of(error) == ["OSError", "KeyError", "IndexError", "ExceptionGroup"]


def test_of_a_long_chain_both_ends_are_kept() -> None:
    chain = cause_chain(chained(*(ValueError(str(number)) for number in range(40))))

    assert [cause.message for cause in chain] == [*map(str, range(8)), *map(str, range(32, 40))]


def test_a_group_that_holds_itself_as_a_cause_has_an_end() -> None:
    inner = ValueError("in")
    group = ExceptionGroup("out", [inner])
    inner.__cause__ = group

    assert types_of(group) == ["ValueError", "ExceptionGroup"]


def raised(error: Exception, depth: int) -> BaseException:
    def down(left: int) -> None:
        if not left:
            raise error
        (down if left % 2 else detour)(left - 1)

    # Two functions: Python folds frames that repeat.
    def detour(left: int) -> None:
        down(left)

    try:
        down(depth)
    except Exception as caught:  # noqa: BLE001 - it is the one given
        return caught
    raise AssertionError("nothing was raised")


def test_of_a_long_traceback_both_ends_are_kept() -> None:
    told = letter_error(raised(ValueError("the end"), 300))

    assert told.traceback is not None
    assert len(told.traceback) == 16_000
    assert told.traceback.startswith("Traceback (most recent call last):")
    assert told.traceback.endswith("ValueError: the end\n")
    assert "some of it is left out" in told.traceback


def test_notes_are_kept_once_each_and_only_some() -> None:
    error = ValueError("no")
    for number in range(20):
        error.add_note(f"note {number}")
        error.add_note(f"note {number}")

    assert letter_error(error).notes == [f"note {number}" for number in range(16)]


class HostileError(Exception):
    """An exception that does all it may do wrong."""

    __notes__ = "no list"  # type: ignore[assignment]

    def __str__(self) -> str:
        raise RuntimeError("no text either")


def test_an_exception_that_cannot_be_printed_is_told_all_the_same() -> None:
    told = letter_error(raised(HostileError(), 1))

    assert told.message == "no text: its __str__ raised RuntimeError"
    assert told.notes == []
    assert cause_chain(HostileError())[0].message == told.message


@pytest.mark.parametrize("length", [2_000, 100_000, 5_000_000])
def test_a_long_message_is_cut(length: int) -> None:
    told = letter_error(ValueError("x y " * (length // 4)))

    assert len(told.message) <= 2_000
    assert len(told.traceback or "") <= 16_000


def test_a_letter_of_an_older_version_is_read() -> None:
    old = {
        "dlq_id": "1",
        "timestamp": "2026-01-01T00:00:00Z",
        "original_event": None,
        "error": {"type": "ValueError", "message": "no"},
        "retry_count": 0,
        "context": {},
        "kind": "permanent",
        "reason": "permanent",
        "source": {"topic": "t", "partition": 0, "offset": 0},
        "something_newer": 1,
    }

    letter = DeadLetter.model_validate_json(json.dumps(old))

    assert (letter.fingerprint, letter.error.notes, letter.cause_chain) == (None, [], [])
    assert json.loads(letter.to_bytes())["something_newer"] == 1
