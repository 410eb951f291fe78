"""The figures of several processes as one: how each is merged stands where it is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import add

from redrive.telemetry.instruments import Figure, FigureType, Merge, Reading, Spreading

__all__ = ["counted_only", "merged"]

_Labels = tuple[str, ...]
_WAYS: Mapping[Merge, Callable[[float, float], float]] = {
    Merge.SUM: add,
    Merge.MAX: max,
    Merge.MIN: min,
}


def merged(readings: Iterable[Reading]) -> list[Reading]:
    """Return one reading for each figure, in the order in which figures first come."""
    values: dict[Figure, dict[_Labels, float]] = {}
    spreads: dict[Figure, dict[_Labels, Spreading]] = {}
    for reading in readings:
        _take_values(values.setdefault(reading.figure, {}), reading)
        _take_spreads(spreads.setdefault(reading.figure, {}), reading.spreads)
    return [Reading(figure, values[figure], spreads[figure]) for figure in values]


def counted_only(readings: Iterable[Reading]) -> list[Reading]:
    """Return what outlives a process: what it has counted, and not how it stood."""
    return [reading for reading in readings if reading.figure.type is not FigureType.GAUGE]


def _take_values(into: dict[_Labels, float], reading: Reading) -> None:
    way = _WAYS[reading.figure.merge]
    for labels, value in reading.values.items():
        into[labels] = way(into[labels], value) if labels in into else value


def _take_spreads(into: dict[_Labels, Spreading], spreads: Mapping[_Labels, Spreading]) -> None:
    for labels, spread in spreads.items():
        there = into.get(labels)
        if there is None:
            into[labels] = spread
        else:
            counts = [a + b for a, b in zip(there.counts, spread.counts, strict=True)]
            into[labels] = Spreading(counts, there.sum + spread.sum)
