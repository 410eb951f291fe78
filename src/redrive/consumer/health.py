"""Is the worker alive, is it ready: two decisions, from facts that any thread may read.

Alive says whether this process still can do its work; when not, replace it. Ready says whether it
does it now; when not, wait. A broker that is away is no reason to be replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Check", "Facts", "Phase", "is_alive", "is_ready"]


class Phase(StrEnum):
    """How far a worker has come in its life."""

    STARTING = "starting"
    WORKING = "working"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a worker at one moment.

    Args:
        phase: How far it has come.
        loop_still_s: For how long its event loop has not moved, in seconds.
        poll_still_s: The same of the poll thread; None when it does not run.
        settling: Why the settle thread does not move; None when it does, or when all is well.
        is_member: Whether the group has said which partitions are its own.
        expected: How many of these it has not read the committed offset of.
        away: Why the group cannot be reached; None when it can.
        can_settle: Whether there is a producer that can take results on.
        stands_still: What has not moved for longer than `worker.standstill`; None when all moves.
    """

    phase: Phase
    loop_still_s: float
    poll_still_s: float | None = None
    settling: str | None = None
    is_member: bool = False
    expected: int = 0
    away: str | None = None
    can_settle: bool = False
    stands_still: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Yes or no, and why in a few words."""

    ok: bool
    why: str


def is_alive(facts: Facts, *, limit_s: float) -> Check:
    """Say whether the event loop and both threads move.

    Args:
        facts: What is known.
        limit_s: How long one of them may stand still, in seconds.
    """
    if facts.phase is Phase.STOPPED:
        return Check(ok=False, why="the worker has stopped")
    if facts.loop_still_s > limit_s:
        return Check(ok=False, why=f"the event loop stands still for {facts.loop_still_s:.0f} s")
    if facts.phase is Phase.WORKING and facts.poll_still_s is None:
        return Check(ok=False, why="the poll thread has ended")
    if facts.poll_still_s is not None and facts.poll_still_s > limit_s:
        return Check(ok=False, why=f"the poll thread stands still for {facts.poll_still_s:.0f} s")
    if (status := facts.stands_still or facts.settling) is not None:
        return Check(ok=False, why=status)
    return Check(ok=True, why=facts.phase.value)


def is_ready(facts: Facts, *, limit_s: float) -> Check:
    """Say whether events are taken in and their results stored; arguments as in `is_alive`."""
    alive = is_alive(facts, limit_s=limit_s)
    if not alive.ok or facts.phase is not Phase.WORKING:
        return Check(ok=False, why=alive.why)
    if not facts.is_member:
        return Check(ok=False, why="the group has not said which partitions are ours")
    if facts.away is not None:
        return Check(ok=False, why=facts.away)
    if facts.expected:
        return Check(ok=False, why=f"{facts.expected} partitions wait for their committed offset")
    if not facts.can_settle:
        return Check(ok=False, why="no producer is open: results cannot be stored")
    return Check(ok=True, why="working")
