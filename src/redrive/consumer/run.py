"""One run in the worker's hands: what its event asks for, and what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from redrive.consumer.outcome import Delivery
from redrive.dead_letter.record import Attempt
from redrive.events import EventHeaders, WorkflowEvent
from redrive.state.rests import Rest

__all__ = ["Run"]


@dataclass(slots=True, eq=False)
class Run:
    """A run, from its event's arrival to its outcome.

    Wall time is read once, when the event comes in.
    `failed_before` and `crashes` were counted by earlier lives of its worker, or by other workers.
    `began` and `deadline` count monotonic seconds. `node_retries` counts the retries in place, of
    all attempts that failed. `limit_s` is set where a limit of its own comes before the deadline
    that the event brought. `verified` says of a redriven run whether its resume did what it should.
    `moved` is when something of it last happened, `due` until when it waits as planned, both in
    monotonic seconds; any thread may read them. `rest` is the one in which its deadline passed.
    """

    delivery: Delivery
    event: WorkflowEvent
    headers: EventHeaders
    thread_id: str
    deadline: float | None = None
    limit_s: float | None = None
    began: float | None = None
    started_at: datetime | None = None
    resumed: bool = False
    finished: bool = False
    failed_before: int = 0
    crashes: int = 0
    failed: list[Attempt] = field(default_factory=list)
    verified: bool | None = None
    node_retries: int = 0
    moved: float = 0.0
    due: float | None = None
    rest: Rest | None = None

    @property
    def is_alone_on_thread(self) -> bool:
        """Whether the thread is its event's own, and not one that a producer named."""
        return self.thread_id.startswith(f"{self.event.event_id}/")

    @property
    def attempts(self) -> int:
        """How many attempts have begun and failed."""
        return self.failed_before + len(self.failed)

    @property
    def tries(self) -> int:
        """How many tries the policy has been charged: failed attempts, and retries of nodes."""
        return self.attempts + self.node_retries

    def begin(self, now: float, *, limit_s: float | None) -> None:
        """Take note that an attempt begins; with the first one, so does the run's own limit."""
        self.moved, self.due = now, None
        if self.began is not None:
            return
        self.began = now
        if limit_s is not None and (self.deadline is None or now + limit_s < self.deadline):
            self.deadline, self.limit_s = now + limit_s, limit_s

    def remaining_s(self, now: float) -> float | None:
        """Return the seconds until nobody wants the result, or None."""
        return None if self.deadline is None else self.deadline - now
