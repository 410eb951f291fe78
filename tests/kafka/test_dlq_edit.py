"""`redrive dlq edit` on a real broker: with an editor on a terminal, with --set, with a file."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kafka.dlq_commands import dlq, letters, states

from redrive.cli.exits import ExitCode
from redrive.dead_letter.record import DeadLetter
from redrive.events import EventHeaders
from redrive.kafka.log import ConsumerRecord
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.stored_letters import dead_letter, store_letters

# Each time it is opened it makes the next of the changes that a file names.
EDITOR = """
import json, sys
from pathlib import Path
steps, text = Path(sys.argv[1]), Path(sys.argv[2])
(old, new), *rest = json.loads(steps.read_text())
assert old in text.read_text(), text.read_text()
text.write_text(text.read_text().replace(old, new))
steps.write_text(json.dumps(rest))
"""
SENT = event({"fate": "permanent", "sum": "SUM"})
# Numbers that Python would not write back as they are.
VALUE = SENT.to_bytes().replace(b'"SUM"', b"[1.10, 1e400, 1234567890123456789]")

ANOTHER = event({}).event_id


@pytest.fixture
def letter(env: KafkaEnv) -> DeadLetter:
    made = dead_letter(SENT, topic=env.topics.events)
    source = made.source.model_copy(update={"value": VALUE})
    letter = made.model_copy(update={"source": source})
    store_letters(env.kafka_settings(), [letter])
    return letter


@pytest.fixture
def env(make_stage: Callable[..., KafkaEnv], command_at: Callable[[KafkaEnv], None]) -> KafkaEnv:
    env = make_stage(partitions=1)
    command_at(env)
    return env


def edited(env: KafkaEnv, *changes: tuple[str, str], answers: str = "") -> tuple[int, str]:
    """Edit the letter at a terminal; return the exit code, and what was told beside the data."""
    editor, steps = env.folder / "an editor.py", env.folder / "steps.json"
    editor.write_text(EDITOR)
    steps.write_text(json.dumps(changes))
    (env.folder / "drafts").mkdir(exist_ok=True)
    ours, theirs = os.openpty()
    try:
        os.write(ours, answers.encode())
        done = subprocess.run(
            [sys.executable, "-m", "redrive", "dlq", "edit", SENT.event_id, "--no-wait"],
            cwd=env.folder,
            env=os.environ
            | {
                "VISUAL": shlex.join([sys.executable, str(editor), str(steps)]),
                "TMPDIR": str(env.folder / "drafts"),
            },
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stderr


def drafts(env: KafkaEnv) -> list[Path]:
    return list((env.folder / "drafts").glob("*/*"))


def kept_command(told: str) -> list[str]:
    (found,) = re.findall(r"your changes are kept: redrive dlq (.*)", told)
    return shlex.split(found)


def driven(env: KafkaEnv) -> list[ConsumerRecord]:
    return read_topic(env.bootstrap_servers, env.topics.events)


def test_an_event_is_changed_in_an_editor_until_it_is_one_and_sent_when_asked(
    env: KafkaEnv, letter: DeadLetter
) -> None:
    code, told = edited(
        env,
        (SENT.event_id, ANOTHER),
        ('"permanent"', '"größer'),
        ('"größer', '"größer"'),
        (ANOTHER, SENT.event_id),
        answers="y\ny\ny\ny\n",
    )

    assert code == ExitCode.OK, told
    assert told.count(f"not sent: its event_id has to stay '{SENT.event_id}'") == 2
    assert told.count("not sent: it is not JSON: Invalid control character at: line 10") == 1
    (sent,) = driven(env)
    assert sent.value == VALUE.replace(b"permanent", "größer".encode()).replace(b", ", b",")
    assert EventHeaders.read(sent.headers).mode == "restart"
    (state,) = states(env)
    assert letters(env) == [letter]
    assert (state.dlq_id, state.model_extra) == (letter.dlq_id, {"edited": True})
    assert drafts(env) == []


@pytest.mark.usefixtures("letter")
def test_what_was_not_changed_or_not_sent_goes_nowhere_and_nothing_typed_is_lost(
    env: KafkaEnv,
) -> None:
    same, unchanged = edited(env, ('"payload"', '  "payload"'))
    nothing_left = drafts(env)
    broken, kept = edited(env, ('"permanent"', '"an hour of work'), answers="n\n")
    (typed,) = drafts(env)
    typed_text = typed.read_text(encoding="utf-8")
    typed.write_text(typed_text.replace("an hour of work", 'success"'), encoding="utf-8")
    declined, told = edited(env, ('"permanent"', '"another hour"'), answers="n\n")
    sent_before = driven(env)
    sent = dlq(*kept_command(kept), "--yes", "--no-wait")

    assert (same, nothing_left) == (ExitCode.ENDED_BADLY, [])
    assert "nothing was changed and nothing is sent" in unchanged
    assert (broken, "nothing was sent" in kept) == (ExitCode.ENDED_BADLY, True)
    assert "an hour of work" in typed_text
    assert typed.stat().st_mode & 0o077 == 0
    assert str(typed) in kept
    assert declined == ExitCode.OK
    assert "your changes are kept" in told
    assert sent_before == []
    assert sent.exit_code == ExitCode.OK, sent.output
    assert b'"success"' in (driven(env)[0].value or b"")


def test_one_value_is_set_and_the_run_succeeds_and_a_bad_path_sends_nothing(
    env: KafkaEnv, letter: DeadLetter
) -> None:
    nowhere = dlq("edit", letter.dlq_id, "--set", "payload.date.fate=x", "--yes")
    other = dlq("edit", letter.dlq_id, "--set", f"event_id={ANOTHER}", "--yes")
    nothing = dlq("edit", letter.dlq_id, "--set", "payload.data.fate=permanent")
    sent_before = driven(env)
    with env.worker("--graph", "*=fates:builder").running():
        fate = ("--set", "payload.data.fate=success", "--set", "payload.data.note=7")
        sent = dlq("edit", SENT.event_id, *fate, "--yes")

    refused = (nowhere, other, nothing)
    assert [each.exit_code for each in refused] == [ExitCode.ENDED_BADLY] * 3
    assert "not sent: payload.date is not there: payload has data" in nowhere.stderr
    assert "not sent: its event_id has to stay" in other.stderr
    assert "nothing was changed" in nothing.stderr
    assert sent_before == []
    assert sent.exit_code == ExitCode.OK, sent.output
    assert "1 letter(s) sent" in sent.stdout
    assert "payload.data.note is new" in sent.stderr
    changed = VALUE.replace(b'"permanent"', b'"success"')
    assert driven(env)[0].value == changed.replace(b"789]}", b'789],"note":7}')
