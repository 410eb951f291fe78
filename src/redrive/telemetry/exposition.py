"""Figures as Prometheus reads them; the one file that knows `prometheus_client`.

Nothing is registered globally: a program that embeds a worker registers its collector where it
likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from redrive.errors import MissingExtraError
from redrive.telemetry.instruments import FigureType, Reading

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise MissingExtraError(module="prometheus_client", extra="worker") from error

__all__ = ["FiguresCollector", "exposition"]


class FiguresCollector(Collector):
    """Reads figures whenever it is collected, for a registry of `prometheus_client`.

    Args:
        read: Returns every figure as it is now.
    """

    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield one family for each figure."""
        for reading in self._read():
            yield _family(reading)


def exposition(read: Callable[[], Iterable[Reading]], *, accept: str = "") -> tuple[bytes, str]:
    """Return all figures as text, and its content type.

    Args:
        read: Returns every figure as it is now.
        accept: The `Accept` header of who asks; by default Prometheus' own text format.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FiguresCollector(read))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _family(reading: Reading) -> Metric:
    figure = reading.figure
    match figure.type:
        case FigureType.HISTOGRAM:
            histogram = HistogramMetricFamily(
                figure.name, figure.help, labels=figure.labels, unit=figure.unit
            )
            bounds = [*(str(bound) for bound in figure.bounds), "+Inf"]
            for labels, spread in reading.spreads.items():
                buckets = list(zip(bounds, accumulate(spread.counts), strict=True))
                histogram.add_metric(list(labels), buckets, sum_value=spread.sum)
            return histogram
        case FigureType.COUNTER:
            family: CounterMetricFamily | GaugeMetricFamily = CounterMetricFamily(
                figure.name.removesuffix("_total"), figure.help, labels=figure.labels
            )
        case FigureType.GAUGE:
            family = GaugeMetricFamily(
                figure.name, figure.help, labels=figure.labels, unit=figure.unit
            )
    for labels, value in reading.values.items():
        if not math.isnan(value):
            family.add_metric(list(labels), value)
    return family
