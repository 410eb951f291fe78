"""Readings as plain data, to be carried from one process to another as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redrive.telemetry.instruments import Distribution, Metric, Sample
from redrive.telemetry.metrics import WORKER_FIGURES

__all__ = ["from_plain", "to_plain"]

_BY_NAME = {metric.name: metric for metric in WORKER_FIGURES}


def to_plain(samples: Iterable[Sample]) -> list[Any]:
    """Return readings of a worker's figures as lists, texts and numbers."""
    return [
        [
            sample.metric.name,
            [[labels, value] for labels, value in sample.values.items()],
            [[labels, spread.counts, spread.sum] for labels, spread in sample.spreads.items()],
        ]
        for sample in samples
    ]


def from_plain(plain: Iterable[Any]) -> list[Sample]:
    """Return the readings that `to_plain` has made into this.

    What another version of redrive tells otherwise is left out: a worker that is started after an
    update may be newer than who reads.

    Raises:
        ValueError, TypeError: This was not made by `to_plain`.
    """
    samples = []
    for name, values, spreads in plain:
        metric = _BY_NAME.get(name)
        if metric is not None:
            kept = {tuple(labels): float(value) for labels, value in values}
            spread = {tuple(labels): Distribution(counts, sum_) for labels, counts, sum_ in spreads}
            samples.append(
                Sample(
                    metric,
                    {labels: value for labels, value in kept.items() if _fits(metric, labels)},
                    {labels: one for labels, one in spread.items() if _fits(metric, labels, one)},
                )
            )
    return samples


def _fits(metric: Metric, labels: tuple[str, ...], spread: Distribution | None = None) -> bool:
    bounds = None if spread is None else len(spread.counts)
    return len(labels) == len(metric.labels) and bounds in {None, len(metric.bounds) + 1}
