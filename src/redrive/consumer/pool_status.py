"""The workers of one parent as others see them: their figures added up, their health as one.

The parent's main thread writes, and replaces what it knows as a whole; any thread may read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.consumer.health import Check
from redrive.consumer.report import WorkerReport
from redrive.telemetry.instruments import Sample
from redrive.telemetry.merging import counted_only, merged
from redrive.telemetry.metrics import READY

__all__ = ["PoolStatus"]

log = structlog.get_logger("redrive.supervisor")

# A worker imports its libraries before it can report.
_FIRST_REPORT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Life:
    """One worker from its start on.

    Args:
        name: What people call it.
        heard_s: When it was last heard, or started.
        line: What it said then, not yet read.
        gone: That it has ended, and what is waited for, in words; None while it runs.
    """

    name: str
    heard_s: float
    line: bytes | None = None
    gone: str | None = None

    def report(self) -> WorkerReport:
        """Return what it said last."""
        return _STARTING if self.line is None else WorkerReport.from_line(self.line)


_STARTING = WorkerReport(
    alive=Check(ok=True, why="starting"), ready=Check(ok=False, why="starting")
)


@dataclass(frozen=True, slots=True)
class _KnownLife:
    """What is known at one moment: the newest life of each number, and what older ones counted."""

    lives: Mapping[int, _Life]
    past: list[Sample] = field(default_factory=list)


class PoolStatus:
    """Knows what each worker of a parent has said last.

    Args:
        size: How many there are, numbered from 0.
        stall_s: For how long one may say nothing, in seconds.
        clock: For that time.
    """

    def __init__(self, size: int, *, stall_s: float, clock: Clock = SYSTEM) -> None:
        self._stall_s = stall_s
        self._clock = clock
        unborn = {n: _Life(f"worker {n}", 0.0, gone="not started yet") for n in range(size)}
        self._known = _KnownLife(unborn)

    def started(self, number: int, name: str) -> None:
        """Take in that the worker of this number was started."""
        self._set(number, _Life(name, self._clock.monotonic()))

    def heard(self, number: int, line: bytes) -> None:
        """Take in what it reports."""
        now_s = self._clock.monotonic()
        self._set(number, replace(self._known.lives[number], heard_s=now_s, line=line))

    def ended(self, number: int, why: str) -> None:
        """Take in that it has ended; what it had counted is kept, so that no count goes back.

        Args:
            number: Which one.
            why: What is waited for now, in words.
        """
        life, past = self._known.lives[number], self._known.past
        try:
            past = merged([*past, *counted_only(life.report().samples)])
        except (ValueError, TypeError):
            # Who shows the workers does not cost them their parent.
            log.exception("supervisor.report_unreadable", worker=life.name)
        # In one step: who reads in between would count it twice, or not at all.
        lives = {**self._known.lives, number: replace(life, line=None, gone=why)}
        self._known = _KnownLife(lives, past)

    def samples(self) -> list[Sample]:
        """Return the figures of all of them."""
        known = self._known
        ready: dict[tuple[str, ...], float] = {(str(n),): 0.0 for n in known.lives}
        told = [sample for life in known.lives.values() for sample in life.report().samples]
        ready |= {at: value for r in told if r.metric is READY for at, value in r.values.items()}
        others = (sample for sample in told if sample.metric is not READY)
        return merged([*known.past, *others, Sample(READY, ready)])

    def alive(self) -> Check:
        """Say whether all of them move. One that died and will be replaced is no standstill."""
        return _of_all({life.name: self._is_alive(life) for life in self._known.lives.values()})

    def ready(self) -> Check:
        """Say whether all of them work, and which do not."""
        return _of_all({life.name: self._is_ready(life) for life in self._known.lives.values()})

    def _is_alive(self, life: _Life) -> Check:
        if life.gone is not None:
            return Check(ok=True, why=life.gone)
        silent_s = self._clock.monotonic() - life.heard_s
        if silent_s > max(self._stall_s, _FIRST_REPORT_S if life.line is None else 0.0):
            return Check(ok=False, why=f"nothing was heard for {silent_s:.0f} s")
        return life.report().alive

    def _is_ready(self, life: _Life) -> Check:
        alive = self._is_alive(life)
        if life.gone is not None or not alive.ok:
            return Check(ok=False, why=alive.why)
        return life.report().ready

    def _set(self, number: int, life: _Life) -> None:
        self._known = replace(self._known, lives={**self._known.lives, number: life})


def _of_all(checks: Mapping[str, Check]) -> Check:
    """Return one check for all, which names those that are to be named."""
    ok = all(check.ok for check in checks.values())
    told = {name: check.why for name, check in checks.items() if ok or not check.ok}
    if len(checks) == 1 or (ok and len(set(told.values())) == 1):
        return Check(ok=ok, why=next(iter(told.values())))
    return Check(ok=ok, why="; ".join(f"{name}: {why}" for name, why in told.items()))
