"""The judge catches workers that are known to be bad, and nothing else, under the same faults."""

import random
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos.known_bad import BAD
from tests.chaos.trial import FATES

from redrive.events import WorkflowEvent
from redrive.testing.broker import LocalBroker
from redrive.testing.chaos import Chaos, Report, run_chaos
from redrive.testing.faults import (
    FreezeWorker,
    KillWorker,
    LoseAnswer,
    MirrorOffsets,
    Planned,
    TermWorker,
)
from redrive.testing.kafka_env import event
from redrive.testing.load import Make
from redrive.testing.proxy import END_TXN

SCRIPT = Path(__file__).parent / "known_bad.py"
EVERY_DAY = ("commits_before_it_settles", "counts_attempts_in_memory")
CONTROLS = (
    "counts_attempts_in_memory",
    "swallows_cancellation",
    "writes_checkpoints_unguarded",
    "keeps_its_producer_after_a_doubt",
    "believes_positions",
    "stands_still",
)
"""Where a finding is a matter of how much: the good worker must stay below."""


def of_fate(fate: str, seconds: float = 0.0) -> Make:
    def make(dice: random.Random) -> WorkflowEvent:
        return event({"fate": fate, "seconds": round(seconds * dice.uniform(0.5, 1.0), 2)})

    return make


def some_slow(dice: random.Random) -> WorkflowEvent:
    """Return an event that sleeps, or one of four that are done at once.

    It sleeps until the others have ended and been committed, on a busy machine as well.
    """
    fate = dice.choice(("sleep", "success", "success", "success", "success"))
    return event({"fate": fate, "seconds": 20.0})


RUNS = 40
AT_WORK = 2 * RUNS
"""So many nodes are begun when all runs are at their second one."""
SHORT = Chaos(
    next(seed for seed in range(9) if not Chaos(seed).named),
    workers=1,
    events=RUNS,
    seconds=0.5,
    checkpoints=False,
    # Room for each of them twice.
    settings={"REDRIVE_WORKER__IN_FLIGHT": str(2 * RUNS)},
)
SCENARIOS: Mapping[str, Chaos] = {
    "commits_before_it_settles": replace(
        SHORT, make=of_fate("sleep", 3.0), faults=(Planned(0, KillWorker(0, 0.1), AT_WORK),)
    ),
    "is_blind_to_epochs": replace(
        SHORT, make=of_fate("sleep", 12.0), faults=(Planned(0, FreezeWorker(0, 7.0), AT_WORK),)
    ),
    "counts_attempts_in_memory": replace(
        SHORT,
        make=of_fate("fail"),
        # Most of them have failed twice, or three times.
        faults=(Planned(0, KillWorker(0, 0.1), AT_WORK + 2 * RUNS),),
        settings={
            **SHORT.settings,
            "REDRIVE_RETRY__INITIAL_DELAY": "1s",
            "REDRIVE_RETRY__MAX_RETRIES": "3",
        },
        # Four attempts, and one that a death may add.
        most_tries={"work": 5},
    ),
    "does_not_wait_for_letters": replace(
        SHORT, make=of_fate("permanent"), faults=(Planned(1.0, KillWorker(0, 0.1), AT_WORK),)
    ),
    "swallows_cancellation": replace(
        SHORT,
        make=of_fate("sleep", 8.0),
        faults=(Planned(0, TermWorker(0, 0.1), AT_WORK),),
        settings={**SHORT.settings, "REDRIVE_WORKER__GRACE": "1s"},
    ),
    "writes_checkpoints_unguarded": replace(
        SHORT,
        checkpoints=True,
        workers=2,
        make=of_fate("sleep", 6.0),
        faults=(Planned(0, FreezeWorker(0, 16.0), AT_WORK),),
    ),
    "commits_for_partitions_of_others": replace(
        SHORT,
        workers=2,
        events=3 * RUNS,
        seconds=20.0,
        make=of_fate("sleep", 0.5),
        # The other one gets all partitions, and gives half of them away again.
        faults=(Planned(1.0, TermWorker(0, 0.1)),),
        # It never ends.
        drain_s=15.0,
    ),
    "keeps_its_producer_after_a_doubt": replace(
        SHORT,
        seconds=12.0,
        make=of_fate("success"),
        faults=(Planned(2.0, LoseAnswer(0, 12.0, END_TXN)),),
        drain_s=15.0,
    ),
    "believes_positions": replace(
        SHORT,
        events=3 * RUNS,
        make=some_slow,
        # What is done is committed past those that sleep, and noted.
        faults=(Planned(2.0, MirrorOffsets(1), 3 * AT_WORK),),
    ),
    "stands_still": replace(
        SHORT,
        seconds=4.0,
        make=of_fate("success"),
        faults=(Planned(2.0, LoseAnswer(0, 1.0, END_TXN)),),
        drain_s=15.0,
    ),
}
CAUGHT_AS = {
    "commits_before_it_settles": "lost: event",
    "is_blind_to_epochs": "doubled: event",
    "counts_attempts_in_memory": "tried: thread",
    "does_not_wait_for_letters": "lost: a result names the letter",
    "swallows_cancellation": "wrong: event",
    "writes_checkpoints_unguarded": "forked: thread",
    "commits_for_partitions_of_others": "TopicPartition(",
    "keeps_its_producer_after_a_doubt": "stuck: event",
    "believes_positions": "lost: event",
    "stands_still": "stuck: event",
}


def live(broker: LocalBroker, folder: Path, chaos: Chaos, bad: str) -> Report:
    for file in (FATES, SCRIPT):
        shutil.copy(file, folder)
    settings = {**chaos.settings, "BAD": bad}
    if bad == "none":
        chaos = replace(chaos, drain_s=90.0)
    return run_chaos(broker, folder, replace(chaos, settings=settings, program=("known_bad.py",)))


def test_each_has_a_scenario() -> None:
    assert SCENARIOS.keys() == BAD.keys() == CAUGHT_AS.keys()


def some_nightly(names: Iterable[str]) -> list[object]:
    """Return parameters, of which those that are not of every day run at night."""
    night = pytest.mark.nightly
    return [pytest.param(name, marks=() if name in EVERY_DAY else night) for name in names]


@pytest.mark.parametrize("bad", some_nightly(SCENARIOS))
def test_a_bad_worker_is_caught_for_what_it_is(
    breakable: LocalBroker, tmp_path: Path, bad: str
) -> None:
    report = live(breakable, tmp_path, SCENARIOS[bad], bad)

    assert any(finding.startswith(CAUGHT_AS[bad]) for finding in report.verdict.findings)


@pytest.mark.parametrize("bad", some_nightly(CONTROLS))
def test_the_good_worker_is_not_caught_where_a_bad_one_is(
    breakable: LocalBroker, tmp_path: Path, bad: str
) -> None:
    report = live(breakable, tmp_path, SCENARIOS[bad], "none")

    assert report.verdict.findings == []
