"""Readings as plain data, to be carried from one process to another as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redrive.telemetry.instruments import Figure, Reading, Spreading
from redrive.telemetry.metrics import WORKER_FIGURES

__all__ = ["from_plain", "to_plain"]

_BY_NAME = {figure.name: figure for figure in WORKER_FIGURES}


def to_plain(readings: Iterable[Reading]) -> list[Any]:
    """Return readings of a worker's figures as lists, texts and numbers."""
    return [
        [
            reading.figure.name,
            [[labels, value] for labels, value in reading.values.items()],
            [[labels, spread.counts, spread.sum] for labels, spread in reading.spreads.items()],
        ]
        for reading in readings
    ]


def from_plain(plain: Iterable[Any]) -> list[Reading]:
    """Return the readings that `to_plain` has made into this.

    What another version of redrive tells otherwise is left out: a worker that is started after an
    update may be newer than who reads.

    Raises:
        ValueError, TypeError: This was not made by `to_plain`.
    """
    readings = []
    for name, values, spreads in plain:
        figure = _BY_NAME.get(name)
        if figure is not None:
            kept = {tuple(labels): float(value) for labels, value in values}
            spread = {tuple(labels): Spreading(counts, sum_) for labels, counts, sum_ in spreads}
            readings.append(
                Reading(
                    figure,
                    {labels: value for labels, value in kept.items() if _fits(figure, labels)},
                    {labels: one for labels, one in spread.items() if _fits(figure, labels, one)},
                )
            )
    return readings


def _fits(figure: Figure, labels: tuple[str, ...], spread: Spreading | None = None) -> bool:
    bounds = None if spread is None else len(spread.counts)
    return len(labels) == len(figure.labels) and bounds in {None, len(figure.bounds) + 1}
