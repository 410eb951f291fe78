"""What events hold in memory, in bytes: those that wait, those that run, and their outcomes.

```text
             taken in               its turn              its outcome is durable
    (log) ─────────────▶  READY  ──────────────▶  BUSY  ──────────────────────────▶  gone
                            │ rests, or is behind  ▲ ▲ │ fails, and is to be tried again
                            ▼ one of its thread    │ │ ▼
                         BLOCKED ──────────────────┘ │
                            │ too many of them:      │ read again from the log when it
                            ▼ its bytes are let go   │ is its turn
                         LET_GO ─────────────────────┘
```

Everything that waits has half of the buffer, and what runs with its outcomes the rest, so that
neither can stop the other for good. Whoever takes much leaves room: a partition is fetched, and a
workflow starts, while it has less than three times what is free, so that a newcomer always finds
a part free (dynamic thresholds, Choudhury and Hahne, 1998); and whoever has nothing may always take
one, though another's outcomes that cannot be stored fill everything. Three threads of control ask;
one lock is held for a few additions. [P7, P11]
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from redrive.kafka.log import ConsumerRecord

__all__ = ["Buffer", "Share", "event_bytes", "unlimited"]

WAITING_PART = 2
"""What waits has the buffer divided by this."""
BLOCKED_PART = 4
"""What waits for its time keeps its bytes up to the buffer divided by this."""
LEAVES_FREE = 3
"""A partition, or a workflow, may hold so many times what is free."""
MOST_WORKFLOWS = 1_024
"""Workflows of which it is known how large their outcomes are; those that ended last."""
_FORGETS = 0.9

EVENT_BYTES = 3_500
"""What an event takes beside its bytes: record, model, run, and its places in tables (measured)."""
LET_GO_BYTES = 1_200
"""What is left of it when its bytes are let go (measured)."""
_BRACE_BYTES, _BRACKET_BYTES, _COMMA_BYTES, _QUOTE_BYTES = 184, 64, 40, 20


def event_bytes(record: ConsumerRecord) -> int:
    """Return what an event holds in memory from its arrival to its end, about: never far less.

    Its bytes, and what they are once they are parsed: judged by their characters, which takes a
    tenth of the time of parsing.
    """
    value = record.value or b""
    headers = sum(len(name) + len(text or b"") for name, text in record.headers)
    return EVENT_BYTES + len(record.key or b"") + headers + len(value) + _parsed_bytes(value)


def _parsed_bytes(value: bytes) -> int:
    """Return what JSON takes as Python objects, about."""
    # One character beyond U+FFFF makes all of its string four bytes wide.
    if b"\xf0" in value or b"\\ud8" in value or b"\\uD8" in value:
        width = 4
    elif not value.isascii() or b"\\u" in value:
        width = 2
    else:
        width = 1
    return (
        width * len(value)
        + _BRACE_BYTES * value.count(b"{")
        + _BRACKET_BYTES * value.count(b"[")
        + _COMMA_BYTES * value.count(b",")
        + _QUOTE_BYTES * value.count(b'"')
    )


def unlimited() -> Share:
    """Return a share of a buffer that takes everything."""
    return Buffer(sys.maxsize).share()


class _Use(IntEnum):
    """What an event does with its bytes."""

    READY = 0
    BLOCKED = 1
    LET_GO = 2
    BUSY = 3


@dataclass(slots=True)
class _Event:
    full_bytes: int
    """With all that it holds, its outcome left out."""
    use: _Use | None = None
    counted_bytes: int = 0
    workflow: str | None = None


@dataclass(slots=True)
class _Sums:
    """What a worker's events hold, over all partitions; changed under the lock only."""

    limit_bytes: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    by_use: list[int] = field(default_factory=lambda: [0] * len(_Use))
    let_go: int = 0
    busy: dict[str | None, int] = field(default_factory=dict)
    outcomes: dict[str | None, int] = field(default_factory=dict)

    @property
    def free_bytes(self) -> int:
        return self.limit_bytes - sum(self.by_use)

    @property
    def free_to_wait_bytes(self) -> int:
        return self.limit_bytes // WAITING_PART - sum(self.by_use[: _Use.BUSY])

    def add_busy(self, workflow: str | None, more: int) -> None:
        busy = self.busy.pop(workflow, 0) + more
        if busy:
            self.busy[workflow] = busy

    def expect(self, workflow: str | None, outcome_bytes: int) -> None:
        """Let the next outcomes of a workflow be about as large as the last ones."""
        before = self.outcomes.pop(workflow, 0)
        self.outcomes[workflow] = max(outcome_bytes, int(_FORGETS * before))
        if len(self.outcomes) > MOST_WORKFLOWS:
            del self.outcomes[next(iter(self.outcomes))]


class Buffer:
    """The memory of one worker that events may take; safe from any thread.

    Args:
        limit_bytes: How much that is (`worker.buffer`).
    """

    def __init__(self, limit_bytes: int) -> None:
        self._sums = _Sums(limit_bytes)

    @property
    def limit_bytes(self) -> int:
        """How much they may."""
        return self._sums.limit_bytes

    @property
    def size_bytes(self) -> int:
        """What all events and outcomes hold now."""
        return sum(self._sums.by_use)

    @property
    def let_go(self) -> int:
        """How many events wait whose bytes were let go."""
        return self._sums.let_go

    @property
    def is_full(self) -> bool:
        """Whether only who has nothing in memory may start: others wait for what is to end."""
        return self._sums.by_use[_Use.BUSY] > 0 and self._sums.free_bytes <= 0

    def is_crowded(self, workflow: str) -> bool:
        """Say whether a workflow has so much running, or not durable, that it has to wait."""
        busy = self._sums.busy.get(workflow, 0)
        return busy > 0 and busy >= LEAVES_FREE * self._sums.free_bytes

    def share(self) -> Share:
        """Return the part of a partition, under one assignment."""
        return Share(self._sums)


class Share:
    """What the events of one partition hold, under one assignment; safe from any thread.

    What is said of an event that is not known, or not any more, changes nothing.
    """

    def __init__(self, sums: _Sums) -> None:
        self._sums = sums
        self._events: dict[int, _Event] = {}
        self._ready_bytes = 0

    def may_fetch(self, *, again: bool = False) -> bool:
        """Say whether more events may be taken in.

        Args:
            again: Whether that was denied before: then there must be twice the room, so that
                fetching, which takes a round trip to begin, does not begin for every event.
        """
        free_to_wait = self._sums.free_to_wait_bytes
        free = min(free_to_wait, self._sums.free_bytes)
        own = 2 * self._ready_bytes if again else self._ready_bytes
        return free_to_wait > 0 and (not own or own < LEAVES_FREE * free)

    def take(self, offset: int, size_bytes: int) -> None:
        """Count an event that was taken in, and waits for its turn."""
        with self._sums.lock:
            self._drop(offset)
            event = self._events[offset] = _Event(size_bytes)
            self._use(event, _Use.READY, size_bytes)

    def block(self, offset: int) -> bool:
        """Count an event that waits for its time, not for a slot; say whether it is kept.

        If not, its bytes are to be let go, and read again when it is its turn.
        """
        sums = self._sums
        with sums.lock:
            event = self._events.get(offset)
            if event is None:
                return True
            if event.use is _Use.LET_GO:
                return False
            self._use(event, _Use.BLOCKED, event.full_bytes)
            if sums.by_use[_Use.BLOCKED] <= sums.limit_bytes // BLOCKED_PART:
                return True
            self._use(event, _Use.LET_GO, LET_GO_BYTES)
            return False

    def start(self, offset: int, workflow: str) -> None:
        """Count an event that is to run, with an outcome as large as its workflow's have been."""
        with self._sums.lock:
            event = self._events.get(offset)
            if event is not None:
                self._work(event, workflow, self._sums.outcomes.get(workflow, 0))

    def end(self, offset: int, outcome_bytes: int) -> None:
        """Count the outcome of an event: it holds its records until they are durable."""
        with self._sums.lock:
            event = self._events.get(offset)
            if event is not None:
                self._work(event, event.workflow, outcome_bytes)
                self._sums.expect(event.workflow, outcome_bytes)

    def drop(self, offsets: Iterable[int]) -> None:
        """Forget events that are settled."""
        with self._sums.lock:
            for offset in offsets:
                self._drop(offset)

    def close(self) -> None:
        """Forget all: the assignment is over."""
        with self._sums.lock:
            for offset in list(self._events):
                self._drop(offset)

    def _work(self, event: _Event, workflow: str | None, outcome_bytes: int) -> None:
        self._use(event, None, 0)
        event.workflow = workflow
        self._use(event, _Use.BUSY, event.full_bytes + outcome_bytes)

    def _drop(self, offset: int) -> None:
        event = self._events.pop(offset, None)
        if event is not None:
            self._use(event, None, 0)

    def _use(self, event: _Event, use: _Use | None, size_bytes: int) -> None:
        """Take back what is counted of an event, and count this."""
        for used, more in ((event.use, -event.counted_bytes), (use, size_bytes)):
            if used is None:
                continue
            self._sums.by_use[used] += more
            if used is _Use.READY:
                self._ready_bytes += more
            elif used is _Use.LET_GO:
                self._sums.let_go += 1 if more > 0 else -1
            elif used is _Use.BUSY:
                self._sums.add_busy(event.workflow, more)
        event.use, event.counted_bytes = use, size_bytes
