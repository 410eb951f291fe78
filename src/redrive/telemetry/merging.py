"""The figures of several processes as one: how each is merged stands where it is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import add

from redrive.telemetry.instruments import Distribution, Merge, Metric, MetricType, Sample

__all__ = ["counted_only", "merged"]

_Labels = tuple[str, ...]
_WAYS: Mapping[Merge, Callable[[float, float], float]] = {
    Merge.SUM: add,
    Merge.MAX: max,
    Merge.MIN: min,
}


def merged(samples: Iterable[Sample]) -> list[Sample]:
    """Return one reading for each figure, in the order in which figures first come."""
    values: dict[Metric, dict[_Labels, float]] = {}
    spreads: dict[Metric, dict[_Labels, Distribution]] = {}
    for sample in samples:
        _take_values(values.setdefault(sample.metric, {}), sample)
        _take_spreads(spreads.setdefault(sample.metric, {}), sample.spreads)
    return [Sample(metric, values[metric], spreads[metric]) for metric in values]


def counted_only(samples: Iterable[Sample]) -> list[Sample]:
    """Return what outlives a process: what it has counted, and not how it stood."""
    return [sample for sample in samples if sample.metric.type is not MetricType.GAUGE]


def _take_values(into: dict[_Labels, float], sample: Sample) -> None:
    way = _WAYS[sample.metric.merge]
    for labels, value in sample.values.items():
        into[labels] = way(into[labels], value) if labels in into else value


def _take_spreads(
    into: dict[_Labels, Distribution], spreads: Mapping[_Labels, Distribution]
) -> None:
    for labels, spread in spreads.items():
        there = into.get(labels)
        if there is None:
            into[labels] = spread
        else:
            counts = [a + b for a, b in zip(there.counts, spread.counts, strict=True)]
            into[labels] = Distribution(counts, there.sum + spread.sum)
