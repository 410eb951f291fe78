"""What a parent decides when a worker of its has ended."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.consumer.child_exit import Decision, Restart, Stop, after_exit, how_it_ended, worst
from redrive.consumer.parent_pipe import LAST_EXIT, last_exit

STATUSES = st.integers(-64, 255)


@rows(
    ("status", "first", "asked_to_stop", "decision"),
    [
        (0, True, False, Restart(0.0)),
        (0, False, True, Stop(0)),
        (1, True, False, Restart(0.0)),
        (2, True, False, Stop(2)),
        (2, False, False, Restart(0.0)),
        (3, True, False, Restart(0.0)),
        (4, True, False, Stop(4)),
        (4, False, False, Stop(4)),
        (17, True, False, Restart(0.0)),
        (75, True, False, Restart(0.0)),
        (130, False, False, Stop(130)),
        (-signal.SIGKILL, True, False, Restart(0.0)),
        (-signal.SIGKILL, False, True, Stop(137)),
        (-signal.SIGTERM, False, True, Stop(143)),
        (75, False, True, Stop(75)),
    ],
)
def test_what_follows_the_end_of_a_child(
    status: int,
    first: bool,  # noqa: FBT001 - a parameter of the test
    asked_to_stop: bool,  # noqa: FBT001 - as above
    decision: Decision,
) -> None:
    assert after_exit(status, first=first, restarts=0, asked_to_stop=asked_to_stop) == decision


def test_the_first_restart_is_at_once_and_further_ones_wait_up_to_30_seconds() -> None:
    decisions = [after_exit(1, first=False, restarts=n, asked_to_stop=False) for n in range(8)]

    assert decisions == [Restart(s) for s in (0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0)]


@given(STATUSES, st.booleans(), st.integers(0, 10**6))
def test_a_parent_that_was_told_to_stop_never_starts_another_child(
    status: int,
    first: bool,  # noqa: FBT001 - as above
    restarts: int,
) -> None:
    decision = after_exit(status, first=first, restarts=restarts, asked_to_stop=True)

    assert decision == Stop(status if status >= 0 else 128 + abs(status))


@given(STATUSES, st.booleans(), st.integers(0, 10**6), st.booleans())
def test_every_end_has_a_decision_within_its_bounds(
    status: int,
    first: bool,  # noqa: FBT001 - as above
    restarts: int,
    asked_to_stop: bool,  # noqa: FBT001 - as above
) -> None:
    match after_exit(status, first=first, restarts=restarts, asked_to_stop=asked_to_stop):
        case Restart(after_s):
            assert 0 <= after_s <= 10
        case Stop(code):
            assert 0 <= code <= 255


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (75, "exit code 75"),
        (-signal.SIGKILL, "killed by SIGKILL (possibly out of memory)"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-40, "killed by signal 40"),
    ],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert how_it_ended(status) == words


def test_a_worker_that_has_no_predecessor_knows_of_none() -> None:
    assert last_exit({}) is None
    assert last_exit({LAST_EXIT: ""}) is None
    assert last_exit({LAST_EXIT: "exit code 75"}) == "exit code 75"


@rows(
    ("codes", "code"),
    [
        ([0], 0),
        ([0, 0, 0], 0),
        ([0, 130], 130),
        ([130, 75], 75),
        ([75, 3], 3),
        ([3, 1, 0], 1),
        ([1, 137], 137),
        ([137, 2], 2),
        ([2, 4, 255], 4),
    ],
)
def test_the_worst_exit_code_is_the_one_that_says_most(codes: list[int], code: int) -> None:
    assert worst(codes) == worst(reversed(codes)) == code


@given(st.lists(st.integers(0, 255), min_size=1))
def test_all_went_well_only_if_it_did_for_each(codes: list[int]) -> None:
    assert worst(codes) in codes
    assert (worst(codes) == 0) is not any(codes)
