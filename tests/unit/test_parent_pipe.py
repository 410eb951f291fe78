"""What a worker knows of its parent."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from redrive.consumer.parent_pipe import (
    PARENT_CHILD,
    PARENT_PIPE,
    PARENT_REPORTS,
    Handover,
    handover,
    parent_pipe,
    times_asked,
)
from redrive.errors import SettingsError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        if _is_open(end):
            os.close(end)


def _is_open(end: int) -> bool:
    try:
        os.fstat(end)
    except OSError:
        return False
    return True


def test_a_worker_without_a_parent_hears_nothing() -> None:
    parent = parent_pipe({})

    parent.read()

    assert (parent.number, parent.forwarded, parent.is_gone) == (None, 0, False)


def test_the_parents_signals_are_counted_and_its_end_is_seen(pipe: tuple[int, int]) -> None:
    ours, theirs = pipe
    parent = parent_pipe({PARENT_PIPE: str(ours)})
    parent.read()
    assert (parent.forwarded, parent.is_gone) == (0, False)

    os.write(theirs, b"\x0f")
    parent.read()
    assert (parent.forwarded, parent.is_gone) == (1, False)

    os.write(theirs, b"\x0f")
    os.close(theirs)
    parent.read()
    assert (parent.forwarded, parent.is_gone) == (2, True)


def test_what_a_worker_starts_gets_neither_the_pipe_nor_its_name(pipe: tuple[int, int]) -> None:
    ours, _ = pipe
    os.set_inheritable(ours, True)  # noqa: FBT003 - positional only
    environ = {PARENT_PIPE: str(ours), "HOME": "/"}

    parent_pipe(environ)

    assert environ == {"HOME": "/"}
    assert not os.get_inheritable(ours)


@pytest.mark.parametrize("text", ["nonsense", "-1", "99999"])
def test_a_variable_that_names_no_pipe_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=PARENT_PIPE):
        parent_pipe({PARENT_PIPE: text})


def test_a_file_is_no_pipe() -> None:
    file = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(SettingsError, match=PARENT_PIPE):
            parent_pipe({PARENT_PIPE: str(file)})
    finally:
        os.close(file)


def test_what_a_parent_hands_over_is_taken_and_not_handed_on(pipe: tuple[int, int]) -> None:
    _, ours = pipe
    os.set_inheritable(ours, True)  # noqa: FBT003 - positional only
    environ = {PARENT_CHILD: "1/3/af09", PARENT_REPORTS: str(ours), "HOME": "/"}

    given = handover(environ)

    assert given == Handover(number=1, of=3, membership="af09-1", reports=ours)
    assert environ == {"HOME": "/"}
    assert not os.get_inheritable(ours)


def test_a_worker_without_a_parent_is_the_only_one_and_shows_itself() -> None:
    assert handover({}) == Handover(number=0, of=1, membership=None, reports=None)


@pytest.mark.parametrize(
    ("name", "text"), [(PARENT_CHILD, "1"), (PARENT_CHILD, "a/b/c"), (PARENT_REPORTS, "99999")]
)
def test_what_no_parent_has_written_is_refused(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name):
        handover({name: text})


@pytest.mark.parametrize(
    ("signals", "forwarded", "asked"),
    [
        (1, 0, 1),  # straight, once
        (2, 0, 2),
        (1, 1, 1),  # through the parent, once
        (2, 2, 2),
        (1, 2, 2),  # of two that were equal the system kept one
        (2, 1, 1),  # both at once: the whole group was signalled
        (4, 2, 2),
    ],
)
def test_a_signal_that_comes_straight_and_through_the_parent_asks_once(
    signals: int, forwarded: int, asked: int
) -> None:
    assert times_asked(signals=signals, forwarded=forwarded) == asked
