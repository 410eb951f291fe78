"""When a thread of checkpoints may go: never while an open run or an open letter could need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.graphs.retention import (
    STILL_MOVING,
    Kept,
    Mark,
    Needed,
    StoredThread,
    ThreadState,
    Wish,
    free_at,
    is_free,
    state_of,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = "0b0f7a44-7a0e-4b5e-8f0a-000000000001"
TTL = 24 * 60
RENEWED_EVERY = 10
# What `longest_kept` adds to what a topic is told.
SLACK = 24 * 60

retentions = st.just(5_000) | st.integers(0, 20_000)
times = st.none() | st.integers(0, 200_000).map(lambda at: START + timedelta(minutes=at))
threads = st.builds(
    StoredThread,
    thread_id=st.sampled_from([f"{EVENT}/0/0", "a conversation"]),
    event_id=st.sampled_from([EVENT, None]),
    last_id=st.just("1"),
    last_at=times,
    finished_at=times,
    mark=st.none() | st.sampled_from(Mark),
    marked_at=times,
    asks=st.booleans(),
)
spans = st.integers(0, 100_000).map(lambda span: timedelta(minutes=span))
wishes = st.builds(Wish, idle=spans, questions=st.booleans(), named=st.booleans())


@dataclass
class Life:
    """One thread through its runs: what the file says at any minute, and when it is needed."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    events: int
    letters: int
    changes: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    needed: list[tuple[int, int]] = field(default_factory=list)
    letters_so_far: int = 0

    def live(self) -> int:
        """Play it from the first event on; return when its story is over."""
        at, driven = 0, True
        while driven:
            at = self.event(at)
            if not (self.changes and self.draw(st.booleans())):
                break
            at, driven = self.letter(at)
        return at

    def event(self, published: int) -> int:
        """Let workers take its record up, and die, until one settles it or it is deleted."""
        gone = published + self.draw(up_to(self.events))
        self.needed.append((published, gone))
        at = published
        for _ in range(self.draw(st.integers(1, 3))):
            if at >= gone:
                break  # Only what a worker holds outlives its record.
            at += self.draw(up_to(gone - at))
            # A run that is given up at once, since its process died too often, moves nothing.
            if self.draw(st.booleans()):
                at = self.held(at, at + self.draw(st.integers(0, 1_000)))
        return at

    def held(self, start: int, end: int) -> int:
        """Let a worker hold the run: it stores checkpoints, and renews its mark every round."""
        self.needed.append((start, end))
        if self.changes:
            self.changes.append((start, {"mark": Mark.RUNNING, "marked_at": start}))
        elif self.draw(st.booleans()):
            self.changes.append((start, {"last_at": start}))
        for stored in sorted(self.draw(st.lists(st.integers(start, end), max_size=3))):
            self.changes.append((stored, {"last_at": stored}))
        if self.changes:
            first = start + self.draw(st.integers(0, RENEWED_EVERY))
            for renewed in range(first, end, RENEWED_EVERY):
                self.changes.append((renewed, {"mark": Mark.RUNNING, "marked_at": renewed}))
        return end

    def letter(self, at: int) -> tuple[int, bool]:
        """Let it end in a letter; return until when that lay there, and if it was driven again."""
        # The second note comes once the letter is stored: its worker may have died before that. An
        # older version, which may have written the first letter, noted nothing.
        least = 0 if self.letters_so_far == 0 else 1
        self.letters_so_far += 1
        for mark in [Mark.RUNNING, Mark.LETTER][: self.draw(st.integers(least, 2))]:
            self.changes.append((at, {"mark": mark, "marked_at": at}))
        gone = at + self.draw(up_to(self.letters))
        self.needed.append((at, gone))
        return gone, self.draw(st.booleans())

    def seen_at(self, now: int) -> StoredThread | None:
        """Return what the file says then; None while nothing was stored."""
        facts: dict[str, Any] = {}
        for at, change in sorted(self.changes, key=lambda one: one[0]):
            if at <= now:
                facts |= change
        if "last_at" not in facts:
            return None
        for name in ("last_at", "marked_at"):
            if name in facts:
                facts[name] = time(facts[name])
        return StoredThread(f"{EVENT}/0/0", EVENT, "1", **facts)


def up_to(most: int) -> st.SearchStrategy[int]:
    """Draw a span, the longest one as often as not: there a bound that is too short shows."""
    return st.just(most) | st.integers(0, most)


def time(at: int) -> datetime:
    return START + timedelta(minutes=at)


def span(length: int) -> timedelta:
    return timedelta(minutes=length)


@pytest.mark.invariant("P4")
@given(st.data(), retentions, retentions)
def test_by_time_no_thread_goes_that_an_open_run_or_letter_could_need(
    data: st.DataObject, events: int, letters: int
) -> None:
    life = Life(data.draw, events, letters)
    life.live()
    kept = Kept(events=span(events + SLACK), letters=span(letters + SLACK))

    for now in {moment for needed in life.needed for moment in needed}:
        thread = life.seen_at(now)
        if thread is not None:
            free = free_at(thread, time(now), ttl=span(TTL), kept=kept)
            assert free is not None
            assert free > time(now)


@given(retentions, retentions)
def test_by_time_an_unmarked_thread_is_kept_through_the_longest_of_all_lives(
    events: int, letters: int
) -> None:
    # Its event is given up when it is about to be deleted, the letter is driven when that is, and
    # the event that drives it waits as long as it can.
    thread = StoredThread(f"{EVENT}/0/0", EVENT, "1", last_at=START)
    kept = Kept(events=span(events + SLACK), letters=span(letters + SLACK))
    last_needed = time(events + letters + events)

    free = free_at(thread, last_needed, ttl=span(TTL), kept=kept)

    assert free == last_needed + 3 * span(SLACK)


@pytest.mark.invariant("P4")
@given(st.data(), retentions, retentions, spans)
def test_by_time_no_named_thread_goes_that_a_run_or_letter_could_need(
    data: st.DataObject, events: int, letters: int, named_ttl: timedelta
) -> None:
    life = Life(data.draw, events, letters)
    life.live()
    kept = Kept(events=span(events + SLACK), letters=span(letters + SLACK))

    for now in {moment for needed in life.needed for moment in needed}:
        seen = life.seen_at(now)
        if seen is not None:
            thread = replace(seen, thread_id="a conversation")
            free = free_at(thread, time(now), ttl=span(TTL), kept=kept, named_ttl=named_ttl)
            assert free is not None
            assert free > time(now)


@given(threads, times.filter(bool), spans, st.none() | spans)
def test_a_named_thread_is_kept_for_its_time_at_least(
    thread: StoredThread, now: datetime, named_ttl: timedelta, events: timedelta | None
) -> None:
    named = replace(thread, thread_id="a conversation")
    kept = Kept(events, None)

    free = free_at(named, now, ttl=span(TTL), kept=kept, named_ttl=named_ttl)

    if named.has_ended and named.moved_at is not None:
        assert free == named.moved_at + named_ttl
    else:
        assert free is None


@given(st.data(), retentions, retentions)
def test_by_time_every_thread_of_an_event_goes_at_last(
    data: st.DataObject, events: int, letters: int
) -> None:
    life = Life(data.draw, events, letters)
    over = life.live()
    kept = Kept(events=span(events + SLACK), letters=span(letters + SLACK))
    thread = life.seen_at(over)

    if thread is not None:
        free = free_at(thread, time(over), ttl=span(TTL), kept=kept)
        assert free is not None
        assert free <= time(over + 2 * (events + SLACK) + letters + SLACK)


@given(threads, times.filter(bool), spans, st.none() | spans, st.none() | spans)
def test_by_time_questions_and_what_a_producer_named_stay(
    thread: StoredThread,
    now: datetime,
    ttl: timedelta,
    events: timedelta | None,
    letters: timedelta | None,
) -> None:
    free = free_at(thread, now, ttl=ttl, kept=Kept(events, letters))

    if thread.waits or not thread.is_own:
        assert free is None
    elif thread.finished_at is not None:
        assert free == thread.finished_at + ttl
    elif events is None or letters is None or thread.moved_at is None:
        assert free is None


@pytest.mark.invariant("P4")
@given(threads, times.filter(bool), wishes, st.booleans(), st.booleans())
def test_asked_for_no_thread_goes_that_the_topics_need_or_a_worker_holds(
    thread: StoredThread,
    now: datetime,
    wish: Wish,
    for_run: bool,  # noqa: FBT001 - drawn
    for_letter: bool,  # noqa: FBT001 - drawn
) -> None:
    name = frozenset({thread.thread_id})
    needed = Needed(
        runs=name if for_run else frozenset(), letters=name if for_letter else frozenset()
    )

    free = is_free(thread, now, wish=wish, needed=needed)

    if free:
        assert not for_run
        assert not for_letter
        assert state_of(thread, now) is not ThreadState.RUNNING
        assert wish.questions or not thread.waits
        assert wish.named or thread.is_own


@given(threads, times.filter(bool), spans)
def test_asked_for_all_that_is_old_and_not_needed_goes(
    thread: StoredThread, now: datetime, idle: timedelta
) -> None:
    wish = Wish(idle, questions=True, named=True)
    still_since = thread.finished_at if thread.is_own else None
    still_since = still_since or thread.moved_at

    free = is_free(thread, now, wish=wish, needed=Needed())

    if state_of(thread, now) is ThreadState.RUNNING:
        assert not free
    elif still_since is not None:
        assert free == (now - still_since >= idle)


@given(threads, times.filter(bool))
def test_a_run_that_was_taken_up_lately_is_running(thread: StoredThread, now: datetime) -> None:
    moved = now - STILL_MOVING / 2
    taken_up = replace(
        thread,
        thread_id=f"{EVENT}/0/0",
        event_id=EVENT,
        last_at=thread.last_at or moved,
        finished_at=None,
        mark=Mark.RUNNING,
        marked_at=moved,
    )

    assert state_of(taken_up, now) is ThreadState.RUNNING
