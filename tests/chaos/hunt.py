"""`make known-bad`: each known-bad worker lives through random seeds until the judge catches it.

Seeds with odd numbers run with checkpoints, the others without; who breaks checkpoints has them
under every seed. At the end the good worker lives through every seed at which a bad one was caught:
with it, nothing may be found. Exits with 1 when a bad worker was never caught, or the good one was.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.known_bad import BAD
from tests.chaos.run import quiet, read_seeds, say
from tests.chaos.trial import FATES, try_seed

from redrive.events import WorkflowEvent
from redrive.testing.chaos import Chaos
from redrive.testing.kafka_env import event

SCRIPT = Path(__file__).parent / "known_bad.py"
_FATES = {"success": 6, "sleep": 8, "transient": 3, "fail": 4, "permanent": 2, "unreadable": 1}
_SETTINGS = {
    "REDRIVE_WORKER__IN_FLIGHT": "64",
    # Who is asked to end cuts runs.
    "REDRIVE_WORKER__GRACE": "1s",
    # Runs that fail each time are in the middle of their attempts for some ten seconds.
    "REDRIVE_RETRY__INITIAL_DELAY": "500ms",
    "REDRIVE_RETRY__MAX_RETRIES": "5",
}
_BREAK_CHECKPOINTS = {"writes_checkpoints_unguarded"}
_MOST_TRIES = {"work": 10}
"""Six attempts, and what deaths may add: attempts are short, and seldom are they hit."""


@dataclass(frozen=True, slots=True)
class Caught:
    """How a worker was caught.

    Args:
        seed: Under which seed.
        checks: What was found, by check.
    """

    seed: int
    checks: Counter[str]

    def __str__(self) -> str:
        told = ", ".join(f"{check} {count}" for check, count in self.checks.most_common())
        return f"caught at seed {self.seed} by: {told}"


def hunt(bad: str, seeds: Sequence[int]) -> Caught | None:
    """Let a worker live through seeds until it is caught; None when it never was."""
    for seed in seeds:
        findings = found(bad, seed)
        if findings:
            return Caught(seed, Counter(check_of(finding) for finding in findings))
    return None


def found(bad: str, seed: int) -> list[str]:
    """Return what the judge finds under a seed; a run that does not end is told, and not found."""
    folder = Path(tempfile.mkdtemp(prefix=f"known-bad-{seed}-"))
    try:
        report = try_seed(chaos_of(bad, seed), folder, files=(FATES, SCRIPT)).report
    except Exception as error:  # noqa: BLE001 - the hunt goes on
        say(f"{bad}: seed {seed} did not end: {error!r}; logs in {folder}")
        # That alone is no proof against a bad worker, and no praise of the good one.
        return [] if bad in BAD else [f"unfinished: {error!r}"]
    shutil.rmtree(folder)
    return report.verdict.findings


def chaos_of(bad: str, seed: int) -> Chaos:
    """Return the run of a worker and a seed."""
    return Chaos(
        seed,
        checkpoints=seed % 2 == 1 or bad in _BREAK_CHECKPOINTS,
        seconds=20.0,
        make=any_fate_and_fail,
        settings={**_SETTINGS, "BAD": bad},
        program=("known_bad.py",),
        nodes=("plan", "work", "write"),
        most_tries=_MOST_TRIES,
    )


def any_fate_and_fail(dice: random.Random) -> WorkflowEvent | bytes:
    """Return an event of any fate, some of which fail each time as if they could pass."""
    (fate,) = dice.choices(list(_FATES), list(_FATES.values()))
    if fate == "unreadable":
        return b"{not JSON"
    return event({"fate": fate, "seconds": round(dice.uniform(0.05, 3.0), 2)})


def check_of(finding: str) -> str:
    """Return the check that a finding comes from, in a word or two."""
    known = {
        "lost:": "lost",
        "stuck:": "stuck",
        "skipped:": "skipped",
        "orphan:": "orphan",
        "doubled:": "doubled",
        "wrong:": "wrong ending",
        "again:": "node done again",
        "tried:": "tried too often",
        "forked:": "forked thread",
        "told twice:": "told twice",
        "not all was settled": "not settled",
        "TopicPartition(": "offsets",
        "letter ": "letter",
        "a result for": "unasked result",
        "the topic has": "events missing",
        "unfinished:": "did not end",
    }
    return next(check for begin, check in known.items() if finding.startswith(begin))


def main() -> int:
    quiet()
    seeds = read_seeds(os.environ.get("SEEDS", "1-20"))
    bad_ones = os.environ.get("BAD", ",".join(BAD)).split(",")

    def hunt_and_tell(bad: str) -> Caught | None:
        caught = hunt(bad, seeds)
        say(f"{bad}: {caught or f'not caught by {len(seeds)} seeds'}")
        return caught

    with ThreadPoolExecutor(int(os.environ.get("AT_ONCE", "1"))) as pool:
        caught = [one for one in pool.map(hunt_and_tell, bad_ones) if one is not None]
        again = sorted({one.seed for one in caught})
        good = list(pool.map(lambda seed: found("none", seed), again))
    for seed, findings in zip(again, good, strict=True):
        say(f"the good worker, seed {seed}: {findings or 'nothing found'}")
    say(
        f"{len(caught)} of {len(bad_ones)} bad workers caught; "
        f"{len(good)} runs of the good worker, caught: {sum(map(bool, good))}"
    )
    return 0 if len(caught) == len(bad_ones) and not any(good) else 1


if __name__ == "__main__":
    sys.exit(main())
