"""What one attempt came to, as data: ended, failed, or drained. Nothing here runs anything."""

from __future__ import annotations

from dataclasses import dataclass, field

from redrive.graphs.lingering_work import LingeringWork
from redrive.retry.kinds import Reason

__all__ = ["Drained", "Ended", "Failed", "GraphVersion", "Position", "Redriven", "RunEnd"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a thread stands in its checkpointer, in LangGraph's own terms."""

    thread_id: str
    checkpoint_id: str
    checkpoint_ns: str
    next: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphVersion:
    """The graph that ran, as registered, and its version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Redriven:
    """A run goes on that had ended in a letter.

    `stopped_at` is the letter's checkpoint; None when it had none.
    """

    stopped_at: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The graph ended; `result` is JSON-safe.

    `reason` is set when it reported that it failed (`graph_failed`) or waits for a person
    (`interrupt`); then `error` tells people why. `node_retries` counts the retries in place.
    `unverified` is what does not hold of a redriven run's resume: empty when all does, None when
    there was nothing to verify.
    """

    result: object
    resumed: bool
    reason: Reason | None = None
    error: str | None = None
    node_retries: int = 0
    unverified: tuple[str, ...] | None = None
    graph: GraphVersion | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt raised; the thread can be resumed where `position` says, if it is set.

    `lingering` is set when something of the attempt ran on as it came back.
    `node_retries` counts the retries in place: they are retries of the run. `unverified`: as in
    `Ended`.
    """

    error: BaseException
    node: str | None
    position: Position | None
    resumed: bool
    graph: GraphVersion | None = None
    lingering: LingeringWork | None = None
    node_retries: int = 0
    unverified: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """The attempt stopped at a checkpoint because it was asked to; it goes on elsewhere."""


RunEnd = Ended | Failed | Drained
