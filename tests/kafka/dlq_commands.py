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
from redrive.redriving.letters_topic import StoredLetter, StoredState, stored
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.reading import read_topic


def dlq(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["dlq", *arguments])


def command(env: KafkaEnv, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "redrive", "dlq", *arguments],
        cwd=env.folder,
        env={**os.environ, **env.environ(), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(env: KafkaEnv, *arguments: str) -> tuple[int, str, str]:
    process = command(env, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def driven(env: KafkaEnv) -> Counter[str | None]:
    """Count the redriven events by their letter."""
    records = read_topic(env.bootstrap_servers, env.topics.events)
    return Counter(EventHeaders.read(record.headers).of for record in records)


def told(env: KafkaEnv) -> Counter[str]:
    """Count the state records by their letter."""
    return Counter(state.dlq_id for state in states(env))


def states(env: KafkaEnv) -> list[LetterState]:
    """Return the state records, as they lie there."""
    return [one.state for one in _stored(env) if isinstance(one, StoredState)]


def letters(env: KafkaEnv) -> list[DeadLetter]:
    """Return the letters, as they lie there."""
    return [one.letter for one in _stored(env) if isinstance(one, StoredLetter)]


def _stored(env: KafkaEnv) -> list[StoredLetter | StoredState | None]:
    return [stored(record) for record in read_topic(env.bootstrap_servers, env.topics.dlq)]
