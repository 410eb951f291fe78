"""`redrive dlq redrive` as processes: twice at once, killed in the middle, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.kafka.dlq_commands import command, driven, letters, run, told

from redrive.cli.exits import ExitCode
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.stored_letters import dead_letter, store_letters
from redrive.testing.worker_process import wait_until

MakeStage = Callable[..., KafkaEnv]
MANY = 150


def store(env: KafkaEnv, count: int = MANY, *, text: str = "", partition: int = 0) -> None:
    """Write letters to one partition, as workers would have; a long text stays out of them."""
    kept: dict[str, object] = {"original_event": None} if text else {}
    store_letters(
        env.kafka_settings(),
        (
            dead_letter(
                event({"number": offset, "text": text}),
                topic=env.topics.events,
                partition=partition,
                offset=offset,
                node="write",
                **kept,
            )
            for offset in range(len(text), len(text) + count)
        ),
    )


def until_some_are_driven(env: KafkaEnv) -> None:
    wait_until(lambda: driven(env), timeout_s=60, what="the first letters driven", every_s=0.2)


def assert_each_once(env: KafkaEnv, many: int = MANY) -> None:
    assert set(driven(env).values()) == {1}
    assert driven(env) == told(env)
    assert len(driven(env)) == many


@pytest.fixture
def env(make_stage: MakeStage) -> KafkaEnv:
    env = make_stage(partitions=2)
    store(env)
    return env


@pytest.mark.invariant("P13")
def test_started_twice_at_once_each_is_driven_once_and_one_says_who_has_it(env: KafkaEnv) -> None:
    store(env, 20, partition=1)
    drive = ("redrive", "--all", "--yes", "--no-wait")
    slow = command(env, *drive, "--rate", "5", "--actor", "anna", "--json")
    until_some_are_driven(env)

    code, out, err = run(env, *drive, "--actor", "bob")
    slow_out, slow_err = slow.communicate(timeout=60)

    assert code == ExitCode.OK, err
    assert " letter(s) sent, " in out
    assert slow.returncode == ExitCode.FENCED, slow_err
    assert "partition 0 of the letters was taken over by bob" in slow_err
    # It has stopped: the other partition was left to who had taken over.
    assert json.loads(slow_out)["refused"] == []
    assert_each_once(env, MANY + 20)


@pytest.mark.invariant("P13")
def test_killed_in_the_middle_and_started_again_each_is_driven_once(env: KafkaEnv) -> None:
    drive = ("redrive", "--all", "--yes", "--no-wait")
    killed = command(env, *drive, "--rate", "40")
    until_some_are_driven(env)
    killed.kill()
    killed.communicate(timeout=10)
    some = len(driven(env))

    code, out, err = run(env, *drive, "--json")

    assert code == ExitCode.OK, err
    report = json.loads(out)
    assert len(report["done"]) == MANY - some
    assert {no["refusal"] for no in report["refused"]} == {"already_running"}
    assert_each_once(env)


def test_a_dry_run_says_how_many_and_where_and_sends_nothing(env: KafkaEnv) -> None:
    code, out, _ = run(env, "redrive", "--node", "write", "--dry-run", "--max", "7")
    nothing, _, err = run(env, "redrive", "nobody", "--dry-run")
    unasked, _, asked = run(env, "redrive", "--all")

    assert code == ExitCode.OK
    assert "7 letter(s) to redrive, 0 refused" in out
    assert "7        resume  all nodes" in out
    assert (nothing, "no letter has the id nobody" in err) == (ExitCode.ENDED_BADLY, True)
    assert (unasked, "give --yes" in asked) == (ExitCode.SETTINGS, True)
    assert not driven(env)


def test_letters_are_discarded_and_set_aside_by_command(env: KafkaEnv) -> None:
    first = letters(env)[0].dlq_id
    parked, out, _ = run(env, "park", first, "--why", "the bank is closed")
    refused, _, err = run(env, "redrive", first, "--yes")
    back, *_ = run(env, "park", first, "--back")
    gone, told_of, _ = run(env, "discard", "--all", "--yes", "--json", "--actor", "bob")

    assert (parked, back, gone) == (ExitCode.OK, ExitCode.OK, ExitCode.OK)
    assert "1 letter(s) parked" in out
    assert (refused, "nothing was done" in err) == (ExitCode.ENDED_BADLY, True)
    assert len(json.loads(told_of)["done"]) == MANY
    assert not driven(env)


def test_a_letter_that_the_events_topic_does_not_take_is_refused_alone(
    make_stage: MakeStage,
) -> None:
    env = make_stage(partitions=1)
    store(env, 2, text="x" * 1_050_000)
    store(env, 3)

    code, out, err = run(env, "redrive", "--all", "--yes", "--no-wait", "--json")

    assert code == ExitCode.OK, err
    report = json.loads(out)
    assert len(report["done"]) == 3
    assert [no["refusal"] for no in report["refused"]] == ["not_taken", "not_taken"]
    assert len(driven(env)) == 3
