"""Chaos of every day: one seed of all faults; at night, those that failed once.

`make chaos SEEDS=...` runs more.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chaos.run import Kept, Options, kept_seeds, read_options, read_seeds, summary
from tests.chaos.trial import Trial, try_seed

from redrive.testing.broker import LocalBroker
from redrive.testing.chaos import Chaos, Report
from redrive.testing.faults import ALL_FAULTS, plan
from redrive.testing.judging import Verdict
from redrive.testing.load import make_load, mostly_success

EVERY_DAY = 3
ALL = len(ALL_FAULTS)
PROCESSES_AND_LINKS = 13
"""So many kinds of faults leave topics and offsets as they are."""
PLANNED_OF_5 = [
    (1.43, "JoinMember(seconds=0.0)"),
    (3.07, "JoinMember(seconds=0.0)"),
    (4.78, "LeaveMember(seconds=0.0)"),
    (6.15, "FreezeWorker(worker=0, seconds=1.04)"),
    (7.83, "StopBroker(seconds=1.23)"),
]


@pytest.mark.invariant("P1", "P2", "P3", "P6")
@pytest.mark.parametrize(
    ("kept", "checkpoints"),
    [
        (Kept(EVERY_DAY, ALL), True),
        *(
            pytest.param(kept, checkpoints, marks=pytest.mark.nightly)
            for kept, checkpoints in (
                (Kept(EVERY_DAY, ALL), False),
                *((kept, checkpoints) for kept in kept_seeds() for checkpoints in (True, False)),
            )
        ),
    ],
    ids=lambda value: value.seed if isinstance(value, Kept) else value,
)
def test_nothing_is_lost_and_nothing_doubled_whatever_fails(
    breakable: LocalBroker, tmp_path: Path, kept: Kept, *, checkpoints: bool
) -> None:
    chaos = kept.of(Chaos(kept.seed, checkpoints=checkpoints, events=80, seconds=8.0))

    report = try_seed(chaos, tmp_path, first=breakable).report

    assert report.verdict.findings == [], report.to_json()
    # More where offsets were set back.
    answered = sum(report.verdict.results.values()) + report.verdict.letters["unreadable"]
    assert answered >= report.events


def test_a_seed_that_was_kept_is_planned_as_when_it_failed() -> None:
    kept = Kept(5, PROCESSES_AND_LINKS)

    planned = kept.of(Chaos(5, seconds=8.0)).planned

    assert [(one.at_s, str(one.fault)) for one in planned] == PLANNED_OF_5
    assert planned != Chaos(5, seconds=8.0).planned


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


def test_a_large_load_has_bursts_that_grow_with_it() -> None:
    bursts = make_load(1, events=10_000, seconds=20, make=mostly_success)

    assert sum(len(burst.values) for burst in bursts) == 10_000
    assert 60 < len(bursts) < 110


def test_seeds_are_lists_and_ranges_and_those_that_failed_once_come_first() -> None:
    assert read_seeds("4,7-9,2") == (4, 7, 8, 9, 2)
    kept = kept_seeds()

    options = read_options({"SEEDS": f"900-901,{kept[0].seed}", "EVENTS": "0", "CHECKPOINTED": "9"})

    asked = (900, 901, kept[0].seed)
    assert options == Options(asked, tuple(kept), events=0, checkpointed=9)
    assert [(run.seed, run.checkpoints) for run in options.runs()] == [
        *((one.seed, True) for one in kept),
        *((seed, True) for seed in asked),
    ]


def test_the_last_line_counts_and_tells_whether_all_is_well() -> None:
    def trial(seed: int, *findings: str) -> Trial:
        chaos = Chaos(seed, checkpoints=seed == 1)
        return Trial(Report(chaos, Verdict(list(findings)), 1000, 0, 0, (), 1.0), ())

    line, well = summary([trial(1), trial(2)], 61.4)
    bad = trial(2, "lost: a", "doubled: b", "wrong: c", "lost: d", "stuck: e", "skipped: f")
    wrong, unwell = summary([bad, None], 9)

    assert well
    assert line.startswith(
        "2 runs of 2 seeds in 61 s: 1,000 events without checkpoints, 1,000 with"
    )
    nothing = "lost 0, doubled 0, skipped 0, stuck 0, other findings 0, runs that did not end 0"
    assert nothing in line
    assert not unwell
    assert "lost 2, doubled 1, skipped 1, stuck 1, other findings 1" in wrong
    assert "runs that did not end 1" in wrong
    assert not summary([None], 1)[1]
