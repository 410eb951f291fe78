"""The figures of several workers: carried to their parent, and told as one."""

from __future__ import annotations

import json

import pytest
from tests.rows import rows

from redrive.telemetry import metrics as figures
from redrive.telemetry.carrying import from_plain, to_plain
from redrive.telemetry.instruments import Figure, FigureType, Merge, Reading, Spread
from redrive.telemetry.merging import counted_only, merged
from redrive.telemetry.metrics import WORKER_FIGURES, Metrics


def one(readings: list[Reading], figure: Figure) -> Reading:
    (found,) = [reading for reading in readings if reading.figure is figure]
    return found


@rows("figure", WORKER_FIGURES, ids=lambda figure: figure.name)
def test_counts_are_only_ever_added_up(figure: Figure) -> None:
    assert figure.merge is Merge.SUM or figure.type is FigureType.GAUGE
    # Of a partition both may tell for a moment while it moves: it is not twice as old then.
    assert figure.merge is Merge.MAX or "partition" not in figure.labels


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        (figures.RUNS, 5.0),
        (figures.IN_FLIGHT, 5.0),
        (figures.STUCK, 3.0),
        (figures.SPOOLED, 3.0),
        (figures.NEXT_DUE, 2.0),
    ],
)
def test_each_figure_is_merged_in_its_own_way(figure: Figure, value: float) -> None:
    labels = tuple("x" for _ in figure.labels)
    told = [Reading(figure, {labels: 2.0}), Reading(figure, {labels: 3.0})]

    assert merged(told) == [Reading(figure, {labels: value})]


def test_what_one_worker_alone_tells_stays_as_it_is() -> None:
    told = [
        Reading(figures.STUCK, {("events", "0"): 1.0}),
        Reading(figures.STUCK, {("events", "1"): 2.0}),
        Reading(figures.PARTITIONS, {(): 1.0}),
    ]

    found = merged(told)

    assert one(found, figures.STUCK).values == {("events", "0"): 1.0, ("events", "1"): 2.0}
    assert one(found, figures.PARTITIONS).values == {(): 1.0}


def test_histograms_are_added_bucket_by_bucket() -> None:
    first, second = Spread(figures.ATTEMPT_TIME), Spread(figures.ATTEMPT_TIME)
    both = Spread(figures.ATTEMPT_TIME)
    for spread, seconds in ((first, 0.125), (second, 0.125), (second, 5000.0)):
        spread.observe(seconds, "report")
        both.observe(seconds, "report")
    second.observe(1.0, "other")
    both.observe(1.0, "other")

    assert merged([first.read(), second.read()]) == [both.read()]


def test_only_what_was_counted_outlives_a_worker() -> None:
    metrics = Metrics()
    metrics.runs.add("report", "succeeded")
    metrics.add_source(lambda: [Reading(figures.IN_FLIGHT, {(): 3.0})])

    kept = counted_only(metrics.read())

    assert one(kept, figures.RUNS).values == {("report", "succeeded"): 1.0}
    assert all(reading.figure is not figures.IN_FLIGHT for reading in kept)
    assert any(reading.figure is figures.SETTLE_TIME for reading in kept)


def test_readings_arrive_as_they_were_sent() -> None:
    metrics = Metrics()
    metrics.runs.add('a"b\närger', "succeeded")
    metrics.settle_time.observe(0.3)

    carried = from_plain(json.loads(json.dumps(to_plain(metrics.read()))))

    assert carried == list(metrics.read())


def test_what_another_version_tells_otherwise_is_left_out() -> None:
    plain = [
        ["redrive_of_tomorrow", [[[], 1.0]], []],
        [figures.RUNS.name, [[["report"], 1.0], [["report", "failed"], 2.0]], []],
        [figures.SETTLE_TIME.name, [], [[[], [1, 2], 3.0]]],
    ]

    assert from_plain(plain) == [
        Reading(figures.RUNS, {("report", "failed"): 2.0}),
        Reading(figures.SETTLE_TIME),
    ]
