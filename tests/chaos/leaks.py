"""Whether a process leaks: what its samples over a life say, like compared with like.

Compared are medians over the first and the last third of the life, after its warm-up. Under a
steady load, tasks, threads and descriptors may not grow; of memory it is told how much. What calls
hold that hang in librdkafka for ever (#5456), and were abandoned, is allowed, and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

COUNTED = ("tasks", "threads", "descriptors")
ALLOWED = 2
"""So much more a median may be at the end: loads waver."""
HELD = {"tasks": 0, "threads": 6, "descriptors": 12}
"""So much is held by one abandoned call, at most: its thread, its producer's, their sockets."""
FEWEST = 9
"""Fewer samples than that are no series."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at a time.

    Args:
        at_s: Seconds since the begin, by any clock that only goes on.
        tasks: Tasks of its event loop.
        threads: As the system counts them.
        descriptors: Open files and sockets.
        memory_mib: Resident.
        runs: How many runs it has begun in its life.
        abandoned: How many calls it has abandoned in its life.
    """

    at_s: float
    tasks: int
    threads: int
    descriptors: int
    memory_mib: float
    runs: int
    abandoned: int = 0


@dataclass(frozen=True, slots=True)
class Trend:
    """What became of one process.

    Args:
        minutes: How much of its life was looked at.
        runs: How many runs it began meanwhile.
        counted: For tasks, threads and descriptors: the first and the last third's median.
        memory_mib: The same of memory.
        memory_mib_per_hour: How fast that grew.
        memory_mib_per_1000_runs: The same, by work.
        abandoned: How many calls were abandoned between those thirds.
    """

    minutes: float
    runs: int
    counted: dict[str, tuple[float, float]]
    memory_mib: tuple[float, float]
    memory_mib_per_hour: float
    memory_mib_per_1000_runs: float
    abandoned: float

    @property
    def growth(self) -> list[str]:
        """What has grown and may not."""
        return [
            f"{what} grew from {first:g} to {last:g}"
            for what, (first, last) in self.counted.items()
            if last > first + ALLOWED + self.abandoned * HELD[what]
        ]

    def __str__(self) -> str:
        counted = ", ".join(f"{what} {a:g} -> {b:g}" for what, (a, b) in self.counted.items())
        first, last = self.memory_mib
        return (
            f"{self.minutes:.0f} min, {self.runs:,} runs, {self.abandoned:g} calls abandoned: "
            f"{counted}, memory {first:.1f} -> "
            f"{last:.1f} MiB ({self.memory_mib_per_hour:+.1f} MiB an hour, "
            f"{self.memory_mib_per_1000_runs:+.2f} MiB per 1,000 runs)"
        )


def trend(life: Sequence[Sample], *, warm_up_s: float) -> Trend:
    """Compare the first and the last third of a life.

    Args:
        life: Samples of one process, in order.
        warm_up_s: So many seconds of it do not count: pools fill, modules are loaded.

    Raises:
        ValueError: Too little is left.
    """
    counts = [sample for sample in life if sample.at_s >= life[0].at_s + warm_up_s]
    if len(counts) < FEWEST:
        raise ValueError(f"{len(counts)} samples after the warm-up; {FEWEST} are needed")
    third = len(counts) // 3
    first, last = counts[:third], counts[-third:]

    def medians(what: str) -> tuple[float, float]:
        one, other = (median(getattr(sample, what) for sample in part) for part in (first, last))
        return one, other

    begin_s, end_s = medians("at_s")
    begin_runs, end_runs = medians("runs")
    before, after = medians("memory_mib")
    abandoned_before, abandoned_after = medians("abandoned")
    grown = after - before
    return Trend(
        minutes=(counts[-1].at_s - counts[0].at_s) / 60,
        runs=counts[-1].runs - counts[0].runs,
        counted={what: medians(what) for what in COUNTED},
        memory_mib=(before, after),
        memory_mib_per_hour=grown / (end_s - begin_s) * 3600,
        memory_mib_per_1000_runs=grown / max(end_runs - begin_runs, 1) * 1000,
        abandoned=abandoned_after - abandoned_before,
    )
