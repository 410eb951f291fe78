"""`redrive dlq …`, in this process or as one of its own, and what it did to the topics."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import LetterState
from redrive.events import EventHeaders
from redrive.redriving.letters import StoredLetter, StoredState, stored
from redrive.testing.reading import read_topic
from redrive.testing.stage import Stage


def dlq(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["dlq", *arguments])


def command(stage: Stage, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "redrive", "dlq", *arguments],
        cwd=stage.folder,
        env={**os.environ, **stage.environ(), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(stage: Stage, *arguments: str) -> tuple[int, str, str]:
    process = command(stage, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def driven(stage: Stage) -> Counter[str | None]:
    """Count the redriven events by their letter."""
    records = read_topic(stage.bootstrap_servers, stage.topics.events)
    return Counter(EventHeaders.read(record.headers).of for record in records)


def told(stage: Stage) -> Counter[str]:
    """Count the state records by their letter."""
    return Counter(state.dlq_id for state in states(stage))


def states(stage: Stage) -> list[LetterState]:
    """Return the state records, as they lie there."""
    return [one.state for one in _stored(stage) if isinstance(one, StoredState)]


def letters(stage: Stage) -> list[DeadLetter]:
    """Return the letters, as they lie there."""
    return [one.letter for one in _stored(stage) if isinstance(one, StoredLetter)]


def _stored(stage: Stage) -> list[StoredLetter | StoredState | None]:
    return [stored(record) for record in read_topic(stage.bootstrap_servers, stage.topics.dlq)]
