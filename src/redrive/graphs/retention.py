"""When a thread of checkpoints may be deleted. Pure: no file and no topic is asked here.

What must never happen: a thread goes that an open run or an open letter could still need. A run is
open from its event's record until its ending is settled; a letter may be driven again as long as it
lies on its topic, and the event that drives it may then wait on the events topic. So, without
asking the topics, the longest that a thread may be needed is

    letter    moved + letters' retention + events' retention
    else      moved + events' retention + letters' retention + events' retention

where `moved` is its last checkpoint or mark, whichever is later. A worker marks the threads of its
open runs again and again, so a run that takes longer than any retention keeps its thread; and it
marks a thread before its letter is stored, and once more after that. The longer bound is for a
thread whose letter an older version wrote, without a mark, or whose run waits for a worker. [P4]

A thread that a producer named goes `threads.ttl` after its last move, where that is set; if its
last run has not ended, it is kept as long as the longer of the two bounds says, at least.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from redrive.thread_names import is_own_thread

__all__ = [
    "STILL_MOVING",
    "Kept",
    "Mark",
    "Needed",
    "StoredThread",
    "ThreadState",
    "Wish",
    "free_at",
    "is_free",
    "longest",
    "state_of",
]

STILL_MOVING = timedelta(minutes=30)
"""A thread that moved this recently is taken for running: workers mark theirs every 10 minutes."""


class Mark(StrEnum):
    """What a worker noted last about a thread that has not finished.

    `ended`: the last run of a thread that a producer named. Versions before take it for a question,
    and keep the thread.
    """

    RUNNING = "running"
    LETTER = "letter"
    QUESTION = "question"
    ENDED = "ended"


class ThreadState(StrEnum):
    """What is known of a thread from its file alone.

    `named` by the event's producer; `unknown`: nothing has moved it for a while, and no ending was
    noted: its worker died, or its run waits for a worker.
    """

    RUNNING = "running"
    FINISHED = "finished"
    LETTER = "letter"
    QUESTION = "question"
    NAMED = "named"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class StoredThread:
    """One thread as it lies in the file.

    Attributes:
        thread_id: Its name.
        event_id: The event of the run that stored here last; None where that was no run of redrive.
        last_id: Its newest checkpoint.
        last_at: When that was stored; None if its id does not tell.
        finished_at: When its run ended, or None.
        mark: What was noted last of a run that has not finished, or None.
        marked_at: When that was; None without a mark.
        asks: Its newest checkpoint waits for a person's answer.
        checkpoints: How many it has; 0 where they were not counted.
        size_bytes: What they and their writes hold; 0 where that was not measured.
        workflow: The one of the run that stored here last; None where that was not noted.
    """

    thread_id: str
    event_id: str | None
    last_id: str
    last_at: datetime | None
    finished_at: datetime | None = None
    mark: Mark | None = None
    marked_at: datetime | None = None
    asks: bool = False
    checkpoints: int = 0
    size_bytes: int = 0
    workflow: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether it belongs to one event, and was not named by a producer."""
        return self.event_id is not None and is_own_thread(self.thread_id, self.event_id)

    @property
    def waits(self) -> bool:
        """Whether it waits for a person's answer."""
        if self.finished_at is not None:
            return False
        # A run that was taken up again after a question has a mark that says so.
        return self.mark is Mark.QUESTION or (self.asks and not (self.mark and self.is_own))

    @property
    def has_ended(self) -> bool:
        """Whether the last run of a named thread is over, and nothing has moved it since."""
        if self.mark is not Mark.ENDED or self.marked_at is None:
            return False
        return self.last_at is None or self.marked_at >= self.last_at

    @property
    def moved_at(self) -> datetime | None:
        """When it was last written to, or noted to be in use."""
        times = [at for at in (self.last_at, self.marked_at) if at is not None]
        # Without the time of its last checkpoint nobody knows how long it has been still.
        return None if self.last_at is None else max(times)


@dataclass(frozen=True, slots=True)
class Kept:
    """How long a record may lie on its topic, at the longest; None: for ever, or not known."""

    events: timedelta | None
    letters: timedelta | None


@dataclass(frozen=True, slots=True)
class Needed:
    """The threads that the topics still need, at the moment they were read.

    `runs`: of events that the group has not finished. `letters`: of letters that may be driven
    again, or are being driven.
    """

    runs: frozenset[str] = frozenset()
    letters: frozenset[str] = frozenset()

    def __contains__(self, thread_id: str) -> bool:
        return thread_id in self.runs or thread_id in self.letters


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks to be deleted.

    Args:
        idle: Only threads that have not moved for so long.
        questions: Also those that wait for a person's answer.
        named: Also those that a producer named.
    """

    idle: timedelta
    questions: bool = False
    named: bool = False


def longest(all_kept: Iterable[Kept]) -> Kept | None:
    """Return what covers each of them; None where there is none."""
    kept = list(all_kept)
    if not kept:
        return None
    return Kept(_longest(one.events for one in kept), _longest(one.letters for one in kept))


def state_of(thread: StoredThread, now: datetime) -> ThreadState:
    """Return what the file says of a thread."""
    if not thread.is_own:
        return ThreadState.NAMED
    if thread.finished_at is not None:
        return ThreadState.FINISHED
    if thread.mark is Mark.LETTER:
        return ThreadState.LETTER
    if thread.waits:
        return ThreadState.QUESTION
    moved_at = thread.moved_at
    if moved_at is not None and now - moved_at >= STILL_MOVING:
        return ThreadState.UNKNOWN
    return ThreadState.UNKNOWN if moved_at is None else ThreadState.RUNNING


def free_at(
    thread: StoredThread,
    now: datetime,
    *,
    ttl: timedelta,
    kept: Kept,
    named_ttl: timedelta | None = None,
) -> datetime | None:
    """Return from when on nothing can need the thread, by time alone; None: that never comes.

    Args:
        thread: The thread.
        now: The time.
        ttl: How long a finished run's thread is kept.
        kept: How long records lie on the topics.
        named_ttl: How long one that a producer named is kept after its last move; None: for ever.
    """
    least = timedelta()
    match state_of(thread, now):
        case ThreadState.FINISHED:
            return None if thread.finished_at is None else thread.finished_at + ttl
        case ThreadState.NAMED if named_ttl is not None:
            # Also while it waits for an answer: this is how long a conversation is kept.
            least = named_ttl
            waits = [] if thread.has_ended else [kept.events, kept.letters, kept.events]
        case ThreadState.QUESTION | ThreadState.NAMED:
            return None
        case ThreadState.LETTER:
            waits = [kept.letters, kept.events]
        case ThreadState.RUNNING | ThreadState.UNKNOWN:
            waits = [kept.events, kept.letters, kept.events]
        case other:
            assert_never(other)
    known = [wait for wait in waits if wait is not None]
    moved_at = thread.moved_at
    if moved_at is None or len(known) < len(waits):
        return None
    try:
        return moved_at + max(least, sum(known, timedelta()))
    except OverflowError:
        return None


def is_free(thread: StoredThread, now: datetime, *, wish: Wish, needed: Needed) -> bool:
    """Decide whether a thread may be deleted, by what the topics say.

    Args:
        thread: The thread, read from the file before the topics were.
        now: The time.
        wish: What was asked for.
        needed: What the topics need; of threads that were looked for there.
    """
    if thread.thread_id in needed or (thread.waits and not wish.questions):
        return False
    match state_of(thread, now):
        case ThreadState.RUNNING:
            return False
        case ThreadState.NAMED if not wish.named:
            return False
        case ThreadState.FINISHED:
            still_since = thread.finished_at
        case _:
            still_since = thread.moved_at
    # With a time that cannot be told, only a person who says "whatever its age" may mean it.
    return (not wish.idle) if still_since is None else now - still_since >= wish.idle


def _longest(times: Iterable[timedelta | None]) -> timedelta | None:
    found = list(times)
    known = [time for time in found if time is not None]
    return max(known) if len(known) == len(found) else None
