"""What came of working with letters, as data: for reports, progress and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from redrive.redriving.deciding import Move, Refusal, Refuse, Send
from redrive.redriving.partition import Entry

__all__ = ["Done", "Refused", "Report", "Step", "TakenOver"]


class Done(NamedTuple):
    """A letter that was sent back, or moved; in a plan: that would be."""

    entry: Entry
    what: Send | Move


@dataclass(frozen=True, slots=True)
class Refused:
    """A letter with which nothing was done, and why."""

    entry: Entry
    refusal: Refusal
    why: str

    @classmethod
    def of(cls, entry: Entry, refuse: Refuse) -> Refused:
        """Put a letter and its refusal together."""
        return cls(entry, refuse.refusal, refuse.why)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Another actor has taken a partition over; `by` is None while nothing it wrote is seen."""

    partition: int
    by: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the work with a partition: what it added to the report."""

    partition: int
    done: Sequence[Done] = ()
    refused: Sequence[Refused] = ()
    taken_over: TakenOver | None = None


@dataclass(slots=True)
class Report:
    """What was done, and what was not.

    `unknown` are ids that no letter has. `results_from` says from where the results topic has to be
    read to see how the runs end. `stopped` says why not all was done, where something stopped it.
    """

    done: list[Done] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    taken_over: list[TakenOver] = field(default_factory=list)
    unknown: frozenset[str] = frozenset()
    results_from: Mapping[int, int] = field(default_factory=dict)
    stopped: str | None = None

    def add(self, step: Step) -> None:
        """Take a step's part in."""
        self.done.extend(step.done)
        self.refused.extend(step.refused)
        if step.taken_over is not None:
            self.taken_over.append(step.taken_over)
