"""`make chaos SEEDS=1-30`: each seed with and without checkpoints, one JSON line for each run.

Exits with 1 if anything was lost, doubled, skipped or stuck, or anything else was found, or a run
did not end. The lines, and the logs of runs that went wrong, say where to look.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import structlog
from tests.chaos.trial import Trial, try_seed

from redrive.testing.chaos import Chaos
from redrive.testing.faults import ALL_FAULTS
from redrive.testing.load import mostly_success

KEPT = Path(__file__).parent / "kept_seeds.txt"
EVENTS, CHECKPOINTED = 10_000, 700
_SETTINGS = {"REDRIVE_WORKER__IN_FLIGHT": "64"}
_SECONDS, _DRAIN_S = 20.0, 180.0


class Kept(NamedTuple):
    """A seed that failed once.

    Args:
        seed: The seed.
        kinds: How many kinds of faults there were then; those of later are left out of its plan.
    """

    seed: int
    kinds: int

    def of(self, chaos: Chaos) -> Chaos:
        """Return a run under the faults that it failed under."""
        return replace(chaos, kinds=tuple(ALL_FAULTS)[: self.kinds])


@dataclass(frozen=True, slots=True)
class Options:
    """What to run.

    Args:
        seeds: What is asked for.
        kept: Seeds that failed once: they come first, whatever is asked for.
        events: How many events a run without checkpoints gets; 0 for no such runs.
        checkpointed: The same with checkpoints.
        at_once: How many runs go on at the same time, each with a broker of its own.
    """

    seeds: tuple[int, ...]
    kept: tuple[Kept, ...] = ()
    events: int = EVENTS
    checkpointed: int = CHECKPOINTED
    at_once: int = 1

    def runs(self) -> list[Chaos]:
        """Return every run, in order."""
        again = [kept.of(run) for kept in self.kept for run in self._of_seed(kept.seed)]
        return [*again, *(run for seed in self.seeds for run in self._of_seed(seed))]

    def _of_seed(self, seed: int) -> Iterable[Chaos]:
        if self.checkpointed:
            yield with_checkpoints(seed, self.checkpointed)
        if self.events:
            yield without_checkpoints(seed, self.events)


def with_checkpoints(seed: int, events: int) -> Chaos:
    """Return a run of three nodes; its journal must show that none was done again."""
    return Chaos(
        seed,
        events=events,
        seconds=_SECONDS,
        settings=_SETTINGS,
        nodes=("plan", "work", "write"),
        drain_s=_DRAIN_S,
    )


def without_checkpoints(seed: int, events: int) -> Chaos:
    """Return a run of one node that costs little, and many events."""
    return Chaos(
        seed,
        checkpoints=False,
        events=events,
        seconds=_SECONDS,
        graph="*=fates:quick",
        make=mostly_success,
        settings=_SETTINGS,
        drain_s=_DRAIN_S,
    )


def read_seeds(text: str) -> tuple[int, ...]:
    """Read seeds as `1,2,7-9`."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds.extend(range(int(first), int(last or first) + 1))
    return tuple(seeds)


def read_options(environ: Mapping[str, str]) -> Options:
    """Read SEEDS, EVENTS, CHECKPOINTED and AT_ONCE."""
    return Options(
        seeds=read_seeds(environ.get("SEEDS", "1-3")),
        kept=tuple(kept_seeds()),
        events=int(environ.get("EVENTS", EVENTS)),
        checkpointed=int(environ.get("CHECKPOINTED", CHECKPOINTED)),
        at_once=int(environ.get("AT_ONCE", 1)),
    )


def kept_seeds() -> list[Kept]:
    """Return the seeds that failed once."""
    lines = (line.split("#")[0].split() for line in KEPT.read_text().splitlines())
    return [Kept(*map(int, line)) for line in lines if line]


def one(chaos: Chaos) -> Trial | None:
    """Do one run in a folder of its own, which stays if it went wrong; None if it did not end."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{chaos.seed}-"))
    what = {"seed": chaos.seed, "checkpoints": chaos.checkpoints}
    try:
        trial = try_seed(chaos, folder)
    except Exception as error:  # noqa: BLE001 - told, and counted; the other runs are to go on
        say(json.dumps({**what, "did_not_end": repr(error), "logs": str(folder)}))
        return None
    for why in trial.set_aside:
        say(json.dumps({**what, "the_broker_dropped_the_end_of_a_transaction": why}))
    say(trial.report.to_json())
    if trial.report.verdict.ok:
        shutil.rmtree(folder)
    else:
        say(json.dumps({**what, "logs": str(folder)}))
    return trial


def say(line: str) -> None:
    """Write a line at once, whole: several threads may do so."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def summary(trials: list[Trial | None], seconds: float) -> tuple[str, bool]:
    """Return the last line, and whether all is well."""
    ended = [trial for trial in trials if trial is not None]
    reports = [trial.report for trial in ended]

    def events(*, checkpoints: bool) -> int:
        return sum(r.events for r in reports if r.chaos.checkpoints is checkpoints)

    named = {
        "lost": sum(report.verdict.lost for report in reports),
        "doubled": sum(report.verdict.doubled for report in reports),
        "skipped": sum(report.verdict.skipped for report in reports),
        "stuck": sum(report.verdict.stuck for report in reports),
    }
    other = sum(len(report.verdict.findings) for report in reports) - sum(named.values())
    unfinished = len(trials) - len(ended)
    again = sum(len(trial.set_aside) for trial in ended)
    line = (
        f"{len(reports)} runs of {len({r.chaos.seed for r in reports})} seeds in {seconds:.0f} s: "
        f"{events(checkpoints=False):,} events without checkpoints, "
        f"{events(checkpoints=True):,} with: "
        f"{', '.join(f'{what} {count}' for what, count in named.items())}, "
        f"other findings {other}, runs that did not end {unfinished}, "
        f"run again because their broker dropped the end of a transaction {again}"
    )
    return line, not (any(named.values()) or other or unfinished)


def quiet() -> None:
    """Keep to lines for programs: what clients of this process say is no news."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main(clock: Callable[[], float] = time.monotonic) -> int:
    quiet()
    options = read_options(os.environ)
    began = clock()
    with ThreadPoolExecutor(options.at_once) as pool:
        trials = list(pool.map(one, options.runs()))
    line, well = summary(trials, clock() - began)
    say(line)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
