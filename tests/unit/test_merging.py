"""The figures of several workers: carried to their parent, and told as one."""

from __future__ import annotations

import json

import pytest
from tests.rows import rows

from redrive.telemetry import metrics as definitions
from redrive.telemetry.carrying import from_plain, to_plain
from redrive.telemetry.instruments import Histogram, Merge, Metric, MetricType, Sample
from redrive.telemetry.merging import counted_only, merged
from redrive.telemetry.metrics import WORKER_FIGURES, Metrics


def one(samples: list[Sample], metric: Metric) -> Sample:
    (found,) = [sample for sample in samples if sample.metric is metric]
    return found


@rows("metric", WORKER_FIGURES, ids=lambda metric: metric.name)
def test_counts_are_only_ever_added_up(metric: Metric) -> None:
    assert metric.merge is Merge.SUM or metric.type is MetricType.GAUGE
    # Of a partition both may tell for a moment while it moves: it is not twice as old then.
    assert metric.merge is Merge.MAX or "partition" not in metric.labels


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (definitions.RUNS, 5.0),
        (definitions.IN_FLIGHT, 5.0),
        (definitions.STUCK, 3.0),
        (definitions.SPOOLED, 3.0),
        (definitions.NEXT_DUE, 2.0),
    ],
)
def test_each_figure_is_merged_in_its_own_way(metric: Metric, value: float) -> None:
    labels = tuple("x" for _ in metric.labels)
    told = [Sample(metric, {labels: 2.0}), Sample(metric, {labels: 3.0})]

    assert merged(told) == [Sample(metric, {labels: value})]


def test_what_one_worker_alone_tells_stays_as_it_is() -> None:
    told = [
        Sample(definitions.STUCK, {("events", "0"): 1.0}),
        Sample(definitions.STUCK, {("events", "1"): 2.0}),
        Sample(definitions.PARTITIONS, {(): 1.0}),
    ]

    found = merged(told)

    assert one(found, definitions.STUCK).values == {("events", "0"): 1.0, ("events", "1"): 2.0}
    assert one(found, definitions.PARTITIONS).values == {(): 1.0}


def test_histograms_are_added_bucket_by_bucket() -> None:
    first, second = Histogram(definitions.ATTEMPT_TIME), Histogram(definitions.ATTEMPT_TIME)
    both = Histogram(definitions.ATTEMPT_TIME)
    for spread, seconds in ((first, 0.125), (second, 0.125), (second, 5000.0)):
        spread.observe(seconds, "report")
        both.observe(seconds, "report")
    second.observe(1.0, "other")
    both.observe(1.0, "other")

    assert merged([first.read(), second.read()]) == [both.read()]


def test_only_what_was_counted_outlives_a_worker() -> None:
    metrics = Metrics()
    metrics.runs.add("report", "succeeded")
    metrics.add_source(lambda: [Sample(definitions.IN_FLIGHT, {(): 3.0})])

    kept = counted_only(metrics.read())

    assert one(kept, definitions.RUNS).values == {("report", "succeeded"): 1.0}
    assert all(sample.metric is not definitions.IN_FLIGHT for sample in kept)
    assert any(sample.metric is definitions.SETTLE_TIME for sample in kept)


def test_readings_arrive_as_they_were_sent() -> None:
    metrics = Metrics()
    metrics.runs.add('a"b\närger', "succeeded")
    metrics.settle_time.observe(0.3)

    carried = from_plain(json.loads(json.dumps(to_plain(metrics.read()))))

    assert carried == list(metrics.read())


def test_what_another_version_tells_otherwise_is_left_out() -> None:
    plain = [
        ["redrive_of_tomorrow", [[[], 1.0]], []],
        [definitions.RUNS.name, [[["report"], 1.0], [["report", "failed"], 2.0]], []],
        [definitions.SETTLE_TIME.name, [], [[[], [1, 2], 3.0]]],
    ]

    assert from_plain(plain) == [
        Sample(definitions.RUNS, {("report", "failed"): 2.0}),
        Sample(definitions.SETTLE_TIME),
    ]
