"""What the code of a node may ask about the attempt that it runs in; set by the processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

from redrive.clock import SYSTEM, Clock
from redrive.errors import NotInNodeError
from redrive.events import RawHeaders, WorkflowEvent
from redrive.retry.retry_config import RetryConfig

__all__ = ["CURRENT", "Current", "CurrentAttempt", "current", "remaining_time"]


@dataclass(frozen=True, slots=True)
class CurrentAttempt:
    """The attempt that a node runs in, as `redrive.current()` returns it.

    Args:
        event: The event that asked for the run.
        thread_id: The LangGraph thread that the run works on.
        attempt: 1 for the run's first attempt, one more after each that failed. An attempt that
            was cut short by the death of its worker is not counted, here as in letters and results.
        redrive_count: How often the event was redriven.
        deadline: When nobody wants the result any more, in UTC; None where nothing says so. It is
            the run's, over all its attempts: `remaining_time()` knows the attempt's own limit too.
        raw_headers: The headers of the event's record as they lie on the topic.
    """

    event: WorkflowEvent
    thread_id: str
    attempt: int = 1
    redrive_count: int = 0
    deadline: datetime | None = None
    raw_headers: RawHeaders = ()

    @property
    def event_id(self) -> str:
        """The event's id: the same for all attempts and redrives."""
        return self.event.event_id

    @property
    def workflow_id(self) -> str:
        """The workflow's id, as the event has it."""
        return self.event.workflow_id

    @property
    def workflow_run_id(self) -> str:
        """The run that asked: of an Airflow task, its DAG run's id."""
        return self.event.workflow_run_id

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the event's record as text; the last value of a name counts.

        A header without a value is left out. Bytes that are not UTF-8 become U+FFFD; `raw_headers`
        has them as they are.
        """
        return {
            name: value.decode(errors="replace")
            for name, value in self.raw_headers
            if value is not None
        }


@dataclass(slots=True)
class Current:
    """One attempt, as redrive's own code below a node sees it.

    Args:
        deadline: When it must have ended, in the clock's monotonic seconds; None for no limit.
        clock: Where time comes from.
        policy: The run's retry policy; None outside of a worker.
        failed_before: How many attempts of the run failed before this one.
        node_retries: How often a node of this attempt was tried again in place.
        attempt: What `current()` returns.
        keeps: Whether a checkpoint, by its namespace and id, is stored where the next attempt
            finds it.
    """

    deadline: float | None = None
    clock: Clock = field(default=SYSTEM)
    policy: RetryConfig | None = None
    failed_before: int = 0
    node_retries: int = 0
    attempt: CurrentAttempt | None = None
    keeps: Callable[[str, str], bool] | None = None


CURRENT: ContextVar[Current | None] = ContextVar("redrive_attempt", default=None)
"""The attempt of this task, or of this thread of a sync node."""


def current() -> CurrentAttempt:
    """Return the attempt that the calling node runs in.

    It is there in async and sync nodes, in subgraphs and tools, and in the graph's `input`,
    `output` and `context` functions; in a thread that a node starts by itself only with the node's
    context (`contextvars.copy_context().run`).

    Raises:
        NotInNodeError: No attempt of redrive runs here.
    """
    running = CURRENT.get()
    if running is None or running.attempt is None:
        raise NotInNodeError("redrive.current()")
    return running.attempt


def remaining_time() -> float | None:
    """Return the seconds that this attempt has left, 0 at least, or None when nothing limits it."""
    running = CURRENT.get()
    if running is None or running.deadline is None:
        return None
    return max(running.deadline - running.clock.monotonic(), 0.0)
