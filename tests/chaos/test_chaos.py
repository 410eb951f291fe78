"""Chaos of every day: two seeds, and those that failed once. `make chaos SEEDS=...` runs more."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from tests.chaos.run import FATES, kept_seeds

from redrive.testing.broker import LocalBroker
from redrive.testing.chaos import Chaos, run_chaos
from redrive.testing.faults import plan
from redrive.testing.load import make_load

EVERY_DAY = [(2, True), (3, False)]


@pytest.fixture(scope="module")
def broker(broker_tools: None) -> Iterator[LocalBroker]:
    """Return a broker that may be killed and frozen: nobody else uses it."""
    del broker_tools
    with LocalBroker() as made:
        yield made


@pytest.mark.invariant("P1", "P2", "P3", "P6")
@pytest.mark.parametrize(
    ("seed", "checkpoints"), EVERY_DAY + [(s, c) for s in kept_seeds() for c in (True, False)]
)
def test_nothing_is_lost_and_nothing_doubled_whatever_fails(
    broker: LocalBroker, tmp_path: Path, seed: int, *, checkpoints: bool
) -> None:
    shutil.copy(FATES, tmp_path)

    chaos = Chaos(seed, checkpoints=checkpoints, events=80, seconds=8.0)

    try:
        report = run_chaos(broker, tmp_path, chaos)
    except (TimeoutError, KafkaException):
        if not broker.dropped_markers:
            raise
        # The broker itself has lost what it was to decide: once more, on another.
        again = tmp_path / "again"
        again.mkdir()
        shutil.copy(FATES, again)
        with LocalBroker() as another:
            report = run_chaos(another, again, chaos)

    assert report.verdict.findings == [], report.to_json()
    assert sum(report.verdict.results.values()) + report.verdict.letters["unreadable"] == 80


def test_equal_seeds_plan_equal_things_and_others_others() -> None:
    def data(seed: int) -> list[object]:
        bursts = make_load(seed, events=50, seconds=10)
        return [
            (b.at_s, [v if isinstance(v, bytes) else v.payload for v in b.values]) for b in bursts
        ]

    plans = [plan(seed, workers=2, seconds=30) for seed in range(20)]

    assert plans == [plan(seed, workers=2, seconds=30) for seed in range(20)]
    assert len(set(plans)) == 20
    assert data(1) == data(1)
    assert data(1) != data(2)
