"""What can go wrong, as values, and a plan of it from a seed: what, and when, and for how long.

Nothing is done here; `redrive.testing.members` and `redrive.testing.event_log` do it. Workers are
named by their number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redrive.testing.proxy import END_TXN, PRODUCE, Way

__all__ = [
    "ALL_FAULTS",
    "AddPartitions",
    "CompactLog",
    "CutLog",
    "CutWorker",
    "Fault",
    "FreezeBroker",
    "FreezeWorker",
    "HoldWorker",
    "JoinMember",
    "KillBroker",
    "KillWorker",
    "LeaveMember",
    "LimitProducers",
    "LimitWorker",
    "LogFault",
    "LoseAnswer",
    "LoseLeader",
    "MirrorOffsets",
    "OrphanWorker",
    "Planned",
    "RemakeTopic",
    "ResetWorker",
    "SlowWorker",
    "StopBroker",
    "TermWorker",
    "TrimLog",
    "plan",
]


@dataclass(frozen=True, slots=True)
class KillWorker:
    """SIGKILL; started again `seconds` later."""

    worker: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TermWorker:
    """SIGTERM; started again once it has ended, and not before `seconds` have passed."""

    worker: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FreezeWorker:
    """SIGSTOP, and SIGCONT `seconds` later."""

    worker: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CutWorker:
    """Its connections are closed and new ones refused, for `seconds`."""

    worker: int
    seconds: float


@dataclass(frozen=True, slots=True)
class HoldWorker:
    """What goes one of these ways is held for `seconds`: a black hole, or half of one."""

    worker: int
    seconds: float
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class ResetWorker:
    """Its connections end with a reset; new ones pass."""

    worker: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SlowWorker:
    """For `seconds`, each piece of `slice_bytes` waits for `delay_s`."""

    worker: int
    seconds: float
    delay_s: float
    slice_bytes: int


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """The answer to its next request of a kind is lost; nothing passes until `seconds` are over."""

    worker: int
    seconds: float
    request: int


@dataclass(frozen=True, slots=True)
class StopBroker:
    """SIGTERM; started again `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class KillBroker:
    """SIGKILL; started again `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class FreezeBroker:
    """SIGSTOP, and SIGCONT `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class JoinMember:
    """One more worker, without an id. What follows waits until it is ready to work."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LeaveMember:
    """SIGTERM to the one that joined last, if one did."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RemakeTopic:
    """The events topic is deleted and made anew, empty: its offsets begin again."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CutLog:
    """The broker loses the last `records` of each of the events' partitions while it is stopped.

    It comes back `seconds` later, and gives their offsets to what is sent then.
    """

    seconds: float
    records: int


@dataclass(frozen=True, slots=True)
class TrimLog:
    """Retention deletes events: all that are finished, and the next `beyond` of each partition."""

    beyond: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CompactLog:
    """For `seconds` the events topic is compacted, so that offsets without a record appear."""

    seconds: float


@dataclass(frozen=True, slots=True)
class AddPartitions:
    """The topics get so many more partitions: those of the events, or that of the results."""

    count: int
    results: bool
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LoseLeader:
    """A second broker that leads one partition of the results is killed; back after `seconds`.

    The first one leads it once the second's session has ended.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class LimitWorker:
    """For `seconds`, its link carries so many bytes a second each way, all connections together."""

    worker: int
    seconds: float
    bytes_per_s: int


@dataclass(frozen=True, slots=True)
class LimitProducers:
    """For `seconds`, a quota of the broker lets all workers produce so many bytes a second."""

    seconds: float
    bytes_per_s: int


@dataclass(frozen=True, slots=True)
class MirrorOffsets:
    """All workers are killed, and the group's offsets go `back`, with the metadata that they had.

    As MirrorMaker copies them to another cluster.
    """

    back: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class OrphanWorker:
    """A worker waits for a broker that is away when its parent is killed, and another follows it.

    The broker comes back `seconds` later.
    """

    worker: int
    seconds: float


LogFault = RemakeTopic | TrimLog | CompactLog | AddPartitions
"""What is done to topics of a broker that runs."""

Fault = (
    KillWorker
    | TermWorker
    | FreezeWorker
    | CutWorker
    | HoldWorker
    | ResetWorker
    | SlowWorker
    | LoseAnswer
    | StopBroker
    | KillBroker
    | FreezeBroker
    | JoinMember
    | LeaveMember
    | LogFault
    | CutLog
    | LoseLeader
    | LimitWorker
    | LimitProducers
    | MirrorOffsets
    | OrphanWorker
)

_Dice = Callable[[random.Random, int], Fault]
_SHORT, _LONG = (0.2, 2.0), (6.5, 8.0)
"""Seconds within a session of 6 s, and beyond it."""


def _spell(dice: random.Random) -> float:
    return round(dice.uniform(*dice.choice((_SHORT, _SHORT, _LONG))), 2)


def _ways(dice: random.Random) -> tuple[Way, ...]:
    return dice.choice(((Way.TO_BROKER,), (Way.TO_CLIENT,), tuple(Way)))


ALL_FAULTS: dict[type, _Dice] = {
    KillWorker: lambda dice, worker: KillWorker(worker, round(dice.uniform(*_SHORT), 2)),
    TermWorker: lambda dice, worker: TermWorker(worker, round(dice.uniform(*_SHORT), 2)),
    FreezeWorker: lambda dice, worker: FreezeWorker(worker, _spell(dice)),
    CutWorker: lambda dice, worker: CutWorker(worker, _spell(dice)),
    HoldWorker: lambda dice, worker: HoldWorker(worker, _spell(dice), _ways(dice)),
    ResetWorker: lambda _, worker: ResetWorker(worker),
    SlowWorker: lambda dice, worker: SlowWorker(
        worker, _spell(dice), round(dice.uniform(0.001, 0.05), 3), dice.choice((100, 1000))
    ),
    LoseAnswer: lambda dice, worker: LoseAnswer(
        worker, round(dice.uniform(*_SHORT), 2), dice.choice((END_TXN, END_TXN, PRODUCE))
    ),
    StopBroker: lambda dice, _: StopBroker(round(dice.uniform(*_SHORT), 2)),
    KillBroker: lambda dice, _: KillBroker(round(dice.uniform(*_SHORT), 2)),
    # Not for longer: a single broker that is fenced meanwhile loses what it was to decide.
    FreezeBroker: lambda dice, _: FreezeBroker(min(_spell(dice), _SHORT[1])),
    JoinMember: lambda *_: JoinMember(),
    LeaveMember: lambda *_: LeaveMember(),
    RemakeTopic: lambda *_: RemakeTopic(),
    CutLog: lambda dice, _: CutLog(round(dice.uniform(*_SHORT), 2), dice.choice((3, 30))),
    TrimLog: lambda dice, _: TrimLog(dice.choice((0, 0, 5))),
    CompactLog: lambda dice, _: CompactLog(round(dice.uniform(1.5, 3.0), 2)),
    AddPartitions: lambda dice, _: AddPartitions(
        dice.choice((1, 2)), results=dice.choice((False, True))
    ),
    # Longer than the controller takes to see that it is gone.
    LoseLeader: lambda dice, _: LoseLeader(round(dice.uniform(5.0, 9.0), 2)),
    LimitWorker: lambda dice, worker: LimitWorker(
        worker, round(dice.uniform(3.0, 9.0), 2), dice.choice((3_000, 10_000, 50_000))
    ),
    LimitProducers: lambda dice, _: LimitProducers(
        round(dice.uniform(3.0, 9.0), 2), dice.choice((2_000, 20_000))
    ),
    MirrorOffsets: lambda dice, _: MirrorOffsets(dice.choice((1, 10, 40))),
    OrphanWorker: lambda dice, worker: OrphanWorker(worker, round(dice.uniform(*_SHORT), 2)),
}
"""How each kind of fault gets its numbers from dice, for a worker.

New kinds come last: a seed that is kept is planned with as many as there were when it failed.
"""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault that begins `at_s` seconds after the load.

    Args:
        at_s: When it begins, in seconds.
        fault: What goes wrong.
        executions: It begins not before so many nodes were executed, if the graph says so.
    """

    at_s: float
    fault: Fault
    executions: int = 0

    @property
    def ends_s(self) -> float:
        """When it is over."""
        return self.at_s + self.fault.seconds


def plan(
    seed: int,
    *,
    workers: int,
    seconds: float,
    kinds: Sequence[type] = tuple(ALL_FAULTS),
) -> tuple[Planned, ...]:
    """Return the faults of a seed, one after the other; equal seeds give equal plans.

    Args:
        seed: Any number.
        workers: How many there are.
        seconds: None begins later than so many seconds after the load has begun.
        kinds: The kinds of faults to choose from.
    """
    dice = random.Random(seed)  # noqa: S311 - no secret
    planned: list[Planned] = []
    at_s = dice.uniform(0.5, 2.0)
    while at_s < seconds:
        fault = ALL_FAULTS[dice.choice(kinds)](dice, dice.randrange(workers))
        planned.append(Planned(round(at_s, 2), fault))
        at_s += fault.seconds + dice.uniform(0.2, 2.0)
    return tuple(planned)
