"""`redrive dlq redrive` as processes: twice at once, killed in the middle, and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from redrive.cli.exits import ExitCode
from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter, LetterContext, LetterError, Source, dlq_id
from redrive.events import EventHeaders
from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.redriving.letters import StoredState, stored
from redrive.retry.kinds import Kind, Reason
from redrive.testing.reading import read_topic
from redrive.testing.stage import Stage, event
from redrive.testing.worker import wait_until

MakeStage = Callable[..., Stage]
MANY = 150


def store_letters(stage: Stage, count: int = MANY, *, text: str = "", partition: int = 0) -> None:
    """Write letters to one partition, as workers would have."""
    config = producer_config(stage.kafka_settings(), max_message_bytes=3_000_000)
    producer = make_producer(config)
    for offset in range(len(text), len(text) + count):
        sent = event({"number": offset, "text": text})
        letter = DeadLetter(
            dlq_id=dlq_id(stage.topics.events, partition, offset, count=0),
            timestamp=SYSTEM.now(),
            original_event=None if text else sent.model_dump(mode="json"),
            error=LetterError(type="ValueError", message="no"),
            retry_count=0,
            context=LetterContext(workflow_id=sent.workflow_id),
            kind=Kind.PERMANENT,
            reason=Reason.PERMANENT,
            node="write",
            source=Source(
                topic=stage.topics.events,
                partition=partition,
                offset=offset,
                key=sent.event_id.encode(),
                value=sent.to_bytes(),
            ),
        )
        producer.produce(
            stage.topics.dlq, letter.to_bytes(), key=sent.event_id.encode(), partition=partition
        )
        producer.poll(0)
    assert producer.flush(30) == 0


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
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def driven(stage: Stage) -> Counter[str | None]:
    records = read_topic(stage.bootstrap_servers, stage.topics.events)
    return Counter(EventHeaders.read(record.headers).of for record in records)


def told(stage: Stage) -> Counter[str]:
    records = read_topic(stage.bootstrap_servers, stage.topics.dlq)
    found = map(stored, records)
    return Counter(one.state.dlq_id for one in found if isinstance(one, StoredState))


def until_some_are_driven(stage: Stage) -> None:
    wait_until(lambda: driven(stage), timeout_s=60, what="the first letters driven", every_s=0.2)


def assert_each_once(stage: Stage, many: int = MANY) -> None:
    assert set(driven(stage).values()) == {1}
    assert driven(stage) == told(stage)
    assert len(driven(stage)) == many


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    stage = make_stage(partitions=2)
    store_letters(stage)
    return stage


@pytest.mark.invariant("P13")
def test_started_twice_at_once_each_is_driven_once_and_one_says_who_has_it(stage: Stage) -> None:
    store_letters(stage, 20, partition=1)
    drive = ("redrive", "--all", "--yes", "--no-wait")
    slow = command(stage, *drive, "--rate", "5", "--actor", "anna", "--json")
    until_some_are_driven(stage)

    code, out, err = run(stage, *drive, "--actor", "bob")
    slow_out, slow_err = slow.communicate(timeout=60)

    assert code == ExitCode.OK, err
    assert " letter(s) sent, " in out
    assert slow.returncode == ExitCode.FENCED, slow_err
    assert "partition 0 of the letters was taken over by bob" in slow_err
    # It has stopped: the other partition was left to who had taken over.
    assert json.loads(slow_out)["refused"] == []
    assert_each_once(stage, MANY + 20)


@pytest.mark.invariant("P13")
def test_killed_in_the_middle_and_started_again_each_is_driven_once(stage: Stage) -> None:
    drive = ("redrive", "--all", "--yes", "--no-wait")
    killed = command(stage, *drive, "--rate", "40")
    until_some_are_driven(stage)
    killed.kill()
    killed.communicate(timeout=10)
    some = len(driven(stage))

    code, out, err = run(stage, *drive, "--json")

    assert code == ExitCode.OK, err
    report = json.loads(out)
    assert len(report["done"]) == MANY - some
    assert {no["refusal"] for no in report["refused"]} == {"already_running"}
    assert_each_once(stage)


def test_a_dry_run_says_how_many_and_where_and_sends_nothing(stage: Stage) -> None:
    code, out, _ = run(stage, "redrive", "--node", "write", "--dry-run", "--max", "7")
    nothing, _, err = run(stage, "redrive", "nobody", "--dry-run")
    unasked, _, asked = run(stage, "redrive", "--all")

    assert code == ExitCode.OK
    assert "7 letter(s) to drive, 0 refused" in out
    assert "7        resume  all nodes" in out
    assert (nothing, "no letter has the id nobody" in err) == (ExitCode.ENDED_BADLY, True)
    assert (unasked, "say --yes" in asked) == (ExitCode.SETTINGS, True)
    assert not driven(stage)


def test_letters_are_discarded_and_set_aside_by_command(stage: Stage) -> None:
    first = dlq_id(stage.topics.events, 0, 0, count=0)
    parked, out, _ = run(stage, "park", first, "--why", "the bank is closed")
    refused, _, err = run(stage, "redrive", first, "--yes")
    back, *_ = run(stage, "park", first, "--back")
    gone, told_of, _ = run(stage, "discard", "--all", "--yes", "--json", "--actor", "bob")

    assert (parked, back, gone) == (ExitCode.OK, ExitCode.OK, ExitCode.OK)
    assert "1 letter(s) set aside" in out
    assert (refused, "nothing was done" in err) == (ExitCode.ENDED_BADLY, True)
    assert len(json.loads(told_of)["done"]) == MANY
    assert not driven(stage)


def test_a_letter_that_the_events_topic_does_not_take_is_refused_alone(
    make_stage: MakeStage,
) -> None:
    stage = make_stage(partitions=1)
    store_letters(stage, 2, text="x" * 1_050_000)
    store_letters(stage, 3)

    code, out, err = run(stage, "redrive", "--all", "--yes", "--no-wait", "--json")

    assert code == ExitCode.OK, err
    report = json.loads(out)
    assert len(report["done"]) == 3
    assert [no["refusal"] for no in report["refused"]] == ["not_taken", "not_taken"]
    assert len(driven(stage)) == 3
