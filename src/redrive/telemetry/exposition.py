"""Figures as Prometheus reads them; the one file that knows `prometheus_client`.

Nothing is registered globally: a program that embeds a worker registers its collector where it
likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from redrive.errors import MissingExtraError
from redrive.telemetry.instruments import MetricType, Sample

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

__all__ = ["MetricsCollector", "exposition"]


class MetricsCollector(Collector):
    """Reads figures whenever it is collected, for a registry of `prometheus_client`.

    Args:
        read: Returns every figure as it is now.
    """

    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield one family for each figure."""
        for sample in self._read():
            yield _family(sample)


def exposition(read: Callable[[], Iterable[Sample]], *, accept: str = "") -> tuple[bytes, str]:
    """Return all figures as text, and its content type.

    Args:
        read: Returns every figure as it is now.
        accept: The `Accept` header of who asks; by default Prometheus' own text format.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(read))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _family(sample: Sample) -> Metric:
    metric = sample.metric
    match metric.type:
        case MetricType.HISTOGRAM:
            histogram = HistogramMetricFamily(
                metric.name, metric.help, labels=metric.labels, unit=metric.unit
            )
            bounds = [*(str(bound) for bound in metric.bounds), "+Inf"]
            for labels, spread in sample.spreads.items():
                buckets = list(zip(bounds, accumulate(spread.counts), strict=True))
                histogram.add_metric(list(labels), buckets, sum_value=spread.sum)
            return histogram
        case MetricType.COUNTER:
            family: CounterMetricFamily | GaugeMetricFamily = CounterMetricFamily(
                metric.name.removesuffix("_total"), metric.help, labels=metric.labels
            )
        case MetricType.GAUGE:
            family = GaugeMetricFamily(
                metric.name, metric.help, labels=metric.labels, unit=metric.unit
            )
    for labels, value in sample.values.items():
        if not math.isnan(value):
            family.add_metric(list(labels), value)
    return family
