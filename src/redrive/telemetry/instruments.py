"""Numbers that one thread writes and any may read, without a lock: counts and spreads by labels.

They cost next to nothing to write, since the worker writes some for each event. What a figure is
called and means is in `redrive.telemetry.metrics`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from redrive.telemetry.recent_groups import UNKNOWN
from redrive.telemetry.redactor import BUILT_IN

__all__ = [
    "OTHER",
    "BoundedLabels",
    "Counter",
    "Distribution",
    "Histogram",
    "Merge",
    "Metric",
    "MetricType",
    "Sample",
]

OTHER = "other"
"""What stands for every name beyond the most that are told apart."""


class MetricType(StrEnum):
    """What a figure is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """What several processes that tell one figure, by equal labels, say together."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: its whole name, as it is scraped, and what it says.

    Args:
        name: Ends with its unit; a counter ends with `_total`.
        type: What it is to Prometheus.
        help: One or two sentences.
        labels: Names of its labels; each has few values.
        unit: `seconds`, `bytes`, `ratio`, or nothing: it counts things.
        bounds: Upper bounds of the buckets of a histogram, ascending.
        merge: What several workers say together; counts can only be added up.
    """

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    bounds: tuple[float, ...] = ()
    merge: Merge = Merge.SUM


@dataclass(frozen=True, slots=True)
class Distribution:
    """How observations spread: how many up to each bound, the rest last; and their sum."""

    counts: Sequence[int]
    sum: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What a figure was at one moment, by the values of its labels."""

    metric: Metric
    values: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    spreads: Mapping[tuple[str, ...], Distribution] = field(default_factory=dict)


class Counter:
    """Counts by labels. One thread adds; a figure without labels is there from the start."""

    __slots__ = ("_metric", "_values")

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._values: dict[tuple[str, ...], float] = {} if metric.labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        """Count one more, or `by` more, with these values of the labels."""
        self._values[labels] = self._values.get(labels, 0) + by

    def read(self) -> Sample:
        """Return what is counted now; from any thread."""
        # Copied in one step: the one who adds does not wait.
        return Sample(self._metric, self._values.copy())


class Histogram:
    """Sorts numbers into buckets, by labels. One thread observes."""

    __slots__ = ("_bounds", "_cells", "_metric")

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._bounds = metric.bounds
        self._cells: dict[tuple[str, ...], list[float]] = {}
        if not metric.labels:
            self._cells[()] = self._cell()

    def observe(self, number: float, *labels: str) -> None:
        """Take one number in, with these values of the labels."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = self._cell()
        cell[bisect_left(self._bounds, number)] += 1
        cell[-1] += number

    def read(self) -> Sample:
        """Return how the numbers spread now; from any thread."""
        cells = {labels: cell.copy() for labels, cell in self._cells.copy().items()}
        spreads = {
            labels: Distribution([int(n) for n in cell[:-1]], cell[-1])
            for labels, cell in cells.items()
        }
        return Sample(self._metric, spreads=spreads)

    def _cell(self) -> list[float]:
        # One count for each bound, one for what is beyond, and the sum.
        return [0] * (len(self._bounds) + 1) + [0.0]


class BoundedLabels:
    """Keeps the values of a label few: names that come from outside are not ours to bound.

    Args:
        at_most: How many names are told apart, beside those that are known to be few.
    """

    __slots__ = ("_at_most", "_is_known", "_names")

    def __init__(self, *, at_most: int) -> None:
        self._names: dict[str, str] = {}
        self._at_most = at_most
        self._is_known: Callable[[str], bool] = _anything

    def know(self, names: Iterable[str], *, is_known: Callable[[str], bool] | None = None) -> None:
        """Tell these apart whatever else comes; to be called before the first one comes.

        Args:
            names: Those that are known to be few.
            is_known: Says of any other name whether it means something; those that mean nothing
                are one, so that they take no place of those that do.
        """
        self._names |= {name: name for name in names}
        self._at_most += len(self._names)
        self._is_known = is_known or _anything

    def of(self, name: str | None) -> str:
        """Return the name, or what stands for all that came too late, or for none."""
        if name is None:
            return ""
        found = self._names.get(name)
        if found is not None:
            return found
        if not self._is_known(name):
            return UNKNOWN
        if len(self._names) >= self._at_most or len(name) > _MOST_CHARS:
            return OTHER
        told = self._names[name] = BUILT_IN.mask(name)  # [P15]
        return told


def _anything(_: str) -> bool:
    return True


_MOST_CHARS = 200
