"""One run in the worker's hands: what its event asks for, and what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from redrive.consumer.outcome import PolledRecord
from redrive.dead_letter.driven import ClaimedRedrive
from redrive.dead_letter.record import LetterAttempt
from redrive.events import EventHeaders, WorkflowEvent, said_by
from redrive.kafka.log import ConsumerRecord
from redrive.state.rests import Rest
from redrive.thread_names import is_own_thread, own_thread

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
    `claim` is set while it is not known whether its event drives a letter, as it says. `lane` is
    what its order goes by where that is not its thread: it may yet come to work on another one.
    `is_let_go` says that its bytes are to be read again before it may go on: `event` is not there
    meanwhile, so that nothing can run without it.
    """

    polled: PolledRecord
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
    failed: list[LetterAttempt] = field(default_factory=list)
    verified: bool | None = None
    node_retries: int = 0
    moved: float = 0.0
    due: float | None = None
    rest: Rest | None = None
    claim: ClaimedRedrive | None = None
    lane: str | None = None
    event_id: str = field(init=False)
    workflow_id: str = field(init=False)
    is_let_go: bool = field(init=False, default=False)
    _said: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Keep what must be known of it without its event."""
        self.event_id, self.workflow_id = self.event.event_id, self.event.workflow_id

    def let_go(self) -> None:
        """Let go of the event's bytes; its position says where they are."""
        self.is_let_go = True
        record = self.polled.record._replace(value=None, headers=())
        self.polled = replace(self.polled, record=record)
        del self.event

    def restore(self, record: ConsumerRecord, event: WorkflowEvent) -> None:
        """Take the event back, as it was read again."""
        self.polled = replace(self.polled, record=record)
        self.event = event
        self.is_let_go = False

    def judge(self, *, is_redrive: bool) -> None:
        """Take note whether it is the redrive that its event claims; else it is as any other."""
        self.claim = None
        if not is_redrive:
            self.headers = self.headers.as_any_other()
            if self.is_alone_on_thread:
                self.thread_id = own_thread(self.event_id, self.polled.tp.partition)

    @property
    def is_alone_on_thread(self) -> bool:
        """Whether the thread is its event's own, and not one that a producer named."""
        return is_own_thread(self.thread_id, self.event_id)

    def said(self) -> str:
        """Return the digest of what the event asked for when it came.

        Asked first before its first attempt: what a node does to the event afterwards is no other
        input of the next one.
        """
        if self._said is None:
            self._said = said_by(self.event)
        return self._said

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
