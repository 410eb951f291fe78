"""`redrive dlq redrive` as processes: twice at once, killed in the middle, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.kafka.dlq_commands import command, driven, letters, run, told

from redrive.cli.exits import ExitCode
from redrive.testing.letters import dead_letter, store_letters
from redrive.testing.stage import Stage, event
from redrive.testing.worker import wait_until

MakeStage = Callable[..., Stage]
MANY = 150


def store(stage: Stage, count: int = MANY, *, text: str = "", partition: int = 0) -> None:
    """Write letters to one partition, as workers would have; a long text stays out of them."""
    kept: dict[str, object] = {"original_event": None} if text else {}
    store_letters(
        stage.kafka_settings(),
        (
            dead_letter(
                event({"number": offset, "text": text}),
                topic=stage.topics.events,
                partition=partition,
                offset=offset,
                node="write",
                **kept,
            )
            for offset in range(len(text), len(text) + count)
        ),
    )


def until_some_are_driven(stage: Stage) -> None:
    wait_until(lambda: driven(stage), timeout_s=60, what="the first letters driven", every_s=0.2)


def assert_each_once(stage: Stage, many: int = MANY) -> None:
    assert set(driven(stage).values()) == {1}
    assert driven(stage) == told(stage)
    assert len(driven(stage)) == many


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    stage = make_stage(partitions=2)
    store(stage)
    return stage


@pytest.mark.invariant("P13")
def test_started_twice_at_once_each_is_driven_once_and_one_says_who_has_it(stage: Stage) -> None:
    store(stage, 20, partition=1)
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
    assert "7 letter(s) to redrive, 0 refused" in out
    assert "7        resume  all nodes" in out
    assert (nothing, "no letter has the id nobody" in err) == (ExitCode.ENDED_BADLY, True)
    assert (unasked, "give --yes" in asked) == (ExitCode.SETTINGS, True)
    assert not driven(stage)


def test_letters_are_discarded_and_set_aside_by_command(stage: Stage) -> None:
    first = letters(stage)[0].dlq_id
    parked, out, _ = run(stage, "park", first, "--why", "the bank is closed")
    refused, _, err = run(stage, "redrive", first, "--yes")
    back, *_ = run(stage, "park", first, "--back")
    gone, told_of, _ = run(stage, "discard", "--all", "--yes", "--json", "--actor", "bob")

    assert (parked, back, gone) == (ExitCode.OK, ExitCode.OK, ExitCode.OK)
    assert "1 letter(s) parked" in out
    assert (refused, "nothing was done" in err) == (ExitCode.ENDED_BADLY, True)
    assert len(json.loads(told_of)["done"]) == MANY
    assert not driven(stage)


def test_a_letter_that_the_events_topic_does_not_take_is_refused_alone(
    make_stage: MakeStage,
) -> None:
    stage = make_stage(partitions=1)
    store(stage, 2, text="x" * 1_050_000)
    store(stage, 3)

    code, out, err = run(stage, "redrive", "--all", "--yes", "--no-wait", "--json")

    assert code == ExitCode.OK, err
    report = json.loads(out)
    assert len(report["done"]) == 3
    assert [no["refusal"] for no in report["refused"]] == ["not_taken", "not_taken"]
    assert len(driven(stage)) == 3
