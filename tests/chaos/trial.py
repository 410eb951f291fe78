"""One run of a seed with the scripted graphs; once more where the broker itself has lost something.

A single broker may drop the end of a transaction (`LocalBroker.dropped_markers`). Such a run says
nothing about redrive: it is told, set aside, and done again on a fresh broker.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from confluent_kafka import KafkaException

from redrive.testing.broker import LocalBroker
from redrive.testing.chaos import Chaos, Report, run_chaos

FATES = Path(__file__).parents[1] / "kafka" / "agents" / "fates.py"
_BROKERS = 3
_STARTS_WITHIN = timedelta(minutes=3)
"""Longer than by default: many seeds run for long, and machines are busy at times."""


class UnsoundBrokerError(Exception):
    """Each broker that was tried has dropped the end of a transaction."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a seed came to.

    Args:
        report: Of the run that counts.
        set_aside: What went wrong in runs whose broker had dropped the end of a transaction.
    """

    report: Report
    set_aside: tuple[str, ...]


def try_seed(
    chaos: Chaos,
    folder: Path,
    *,
    first: LocalBroker | None = None,
    files: Sequence[Path] = (FATES,),
) -> Trial:
    """Do one run, on sound ground.

    Args:
        chaos: The run.
        folder: Gets a folder for each broker that is tried, with the workers' logs.
        first: The broker to begin with; by default a fresh one.
        files: What workers find where they run.

    Raises:
        UnsoundBrokerError: No broker was sound.
    """
    set_aside: list[str] = []
    for number in range(_BROKERS):
        place = folder / f"broker-{number}"
        place.mkdir()
        for file in files:
            shutil.copy(file, place)
        with nullcontext(first) if first and not number else fresh() as broker:
            try:
                report = run_chaos(broker, place, chaos)
            except (TimeoutError, KafkaException) as error:
                if not broker.dropped_markers:
                    raise
                set_aside.append(repr(error))
            else:
                if report.verdict.ok or not broker.dropped_markers:
                    return Trial(report, tuple(set_aside))
                set_aside.append(report.to_json())
    raise UnsoundBrokerError(f"{_BROKERS} brokers dropped the end of a transaction: {set_aside}")


def fresh() -> LocalBroker:
    """Return a broker that has time to start."""
    return LocalBroker(start_timeout=_STARTS_WITHIN)
