"""`make chaos SEEDS=1,2,3`: a run for each seed, with and without checkpoints, one JSON line each.

Exits with 1 if anything was lost or doubled, or anything else was found, or a run did not end. The
lines, and the logs of runs that went wrong, say where to look.
"""

import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

import structlog

from redrive.testing.broker import LocalBroker
from redrive.testing.chaos import Chaos, Report, run_chaos

HERE = Path(__file__).parent
FATES = HERE.parent / "kafka" / "agents" / "fates.py"
KEPT = HERE / "kept_seeds.txt"


def kept_seeds() -> list[int]:
    """Return the seeds that failed once."""
    lines = (line.split("#")[0].strip() for line in KEPT.read_text().splitlines())
    return [int(line) for line in lines if line]


def one(broker: LocalBroker, chaos: Chaos) -> Report:
    """Do one run in a folder of its own, which stays if it went wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{chaos.seed}-"))
    shutil.copy(FATES, folder)
    try:
        report = run_chaos(broker, folder, chaos)
    except Exception as error:
        error.add_note(f"seed {chaos.seed}, checkpoints {chaos.checkpoints}; logs in {folder}")
        raise
    if report.verdict.ok:
        shutil.rmtree(folder)
    else:
        say(f"seed {chaos.seed}: see {folder}")
    return report


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    # The lines are to be read by programs: what clients of this process say is no news.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "1,2,3").split(",")]
    reports: list[Report] = []
    unfinished = 0
    for seed in [*kept_seeds(), *seeds]:
        for checkpoints in (True, False):
            try:
                with LocalBroker() as broker:
                    report = one(broker, Chaos(seed, checkpoints=checkpoints))
            except Exception as error:  # noqa: BLE001 - the next seed is to run all the same
                unfinished += 1
                say(f"seed {seed}, checkpoints {checkpoints}: did not end: {error!r}")
                say("\n".join(getattr(error, "__notes__", [])))
                continue
            reports.append(report)
            say(report.to_json())
    lost = sum(report.verdict.lost for report in reports)
    doubled = sum(report.verdict.doubled for report in reports)
    other = sum(len(report.verdict.findings) for report in reports) - lost - doubled
    say(
        f"{len(reports)} runs, {sum(report.events for report in reports)} events: lost {lost}, "
        f"doubled {doubled}, other findings {other}, runs that did not end {unfinished}"
    )
    return 1 if lost or doubled or other or unfinished else 0


if __name__ == "__main__":
    sys.exit(main())
