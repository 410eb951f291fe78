"""`redrive checkpoints` on a broker: threads go when no open run and no letter needs them."""

import json
from collections.abc import Callable
from contextlib import closing

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from tests.kafka.dlq_commands import dlq
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.clock import SYSTEM
from redrive.dead_letter.letter_settings import LetterSettings
from redrive.graphs.checkpoint_file import deployments, read_only
from redrive.graphs.retention import Kept
from redrive.kafka.client import admin_config
from redrive.kafka.connect import make_admin
from redrive.kafka.topic_admin import verify_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until
from redrive.wiring.topic_retention import retention_of

FILE = "checkpoints.db"


def checkpoints(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["checkpoints", *arguments])


def listed() -> dict[str, str]:
    """Return the state of each thread, by the event."""
    told = json.loads(checkpoints("list", "--json", "--limit", "100").stdout)
    return {one["event_id"]: one["state"] for one in told["threads"]}


def sweep(*arguments: str) -> dict[str, object]:
    swept = checkpoints("sweep", "--older-than", "0s", "--json", *arguments)
    assert swept.exit_code == 0, swept.stderr
    told: dict[str, object] = json.loads(swept.stdout)
    return told


def lived(make_stage: Callable[..., KafkaEnv], fates: list[str]) -> tuple[KafkaEnv, list[str]]:
    """Let a worker end events of these fates; return the stage, and the events' ids."""
    env = make_stage(partitions=2, REDRIVE_CHECKPOINTS__URL=f"sqlite:///{FILE}")
    events = [event({"fate": fate}) for fate in fates]
    with env.worker("--graph", "*=fates:builder").running() as worker:
        env.send(events)
        env.wait_settled(timeout_s=60)
        wait_until(lambda: has_learned(env), timeout_s=30, what="what the topics keep")
        assert worker.stop() == 0
    return env, [one.event_id for one in events]


def has_learned(env: KafkaEnv) -> bool:
    with closing(read_only(env.folder / FILE)) as connection:
        return bool(deployments(connection))


@pytest.mark.invariant("P4")
def test_threads_of_letters_that_are_over_go_and_those_of_open_ones_can_be_resumed(
    make_stage: Callable[..., KafkaEnv], command_at: Callable[[KafkaEnv], None]
) -> None:
    env, ids = lived(make_stage, ["permanent"] * 4 + ["success"] * 2)
    command_at(env)
    assert dlq("discard", ids[0], ids[1]).exit_code == 0

    planned = sweep("--dry-run")
    before = listed()
    done = sweep("--yes")
    after = listed()

    assert before == dict.fromkeys(ids[:4], "letter") | dict.fromkeys(ids[4:], "finished")
    assert len(list(planned["threads"])) == done["deleted"] == 4  # type: ignore[call-overload]
    assert planned["needed"] == 2
    assert after == dict.fromkeys(ids[2:4], "letter")
    # What stays can be driven again, from where it stopped.
    with env.worker("--graph", "*=fates:builder").running() as worker:
        dlq("redrive", ids[2], "--yes", "--timeout", "60s")
        assert worker.stop() == 0
    executed = (env.folder / "executions.log").read_text().splitlines()
    of_that_run = [line.split()[1] for line in executed if line.startswith(ids[2])]
    assert of_that_run == ["plan", "work", "work"]


def test_threads_of_letters_that_retention_took_go(
    make_stage: Callable[..., KafkaEnv], command_at: Callable[[KafkaEnv], None]
) -> None:
    env, ids = lived(make_stage, ["permanent"] * 3)
    command_at(env)
    kept = sweep("--yes")
    admin = make_admin(admin_config(env.kafka_settings()))
    ends = [TopicPartition(env.topics.dlq, number, OFFSET_END) for number in range(2)]
    for future in admin.delete_records(ends).values():
        future.result(30)

    gone = sweep("--yes")

    assert (kept["deleted"], kept["needed"]) == (0, len(ids))
    assert gone["deleted"] == len(ids)
    assert listed() == {}


@pytest.mark.invariant("P4", "P15")
def test_a_conversation_is_forgotten_on_demand_but_not_under_an_open_run(
    make_stage: Callable[..., KafkaEnv], command_at: Callable[[KafkaEnv], None]
) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL=f"sqlite:///{FILE}")
    chat = {"redrive-thread": "chat-7"}
    with env.worker("--graph", "*=fates:builder").running() as worker:
        env.send([event({"fate": "success"})], headers=chat)
        env.send([event({"fate": "permanent"})], headers=chat)
        env.wait_settled(timeout_s=60)
        wait_until(lambda: has_learned(env), timeout_s=30, what="what the topics keep")
        assert worker.stop() == 0
    command_at(env)
    before = checkpoints("delete", "chat-7", "--dry-run")
    env.send([event({"fate": "success"})], headers=chat)

    refused = checkpoints("delete", "chat-7", "--yes")
    kept = listed()
    with env.worker("--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0
    done = checkpoints("delete", "chat-7", "--yes")

    assert (before.exit_code, "belong to letters" in before.stderr) == (0, True)
    assert (refused.exit_code, "an open run works on 'chat-7'" in refused.stderr) == (1, True)
    assert list(kept.values()) == ["named"]
    assert (done.exit_code, listed()) == (0, {})
    assert b"chat-7" not in (env.folder / FILE).read_bytes()


def test_topics_of_other_workers_free_nothing(
    make_stage: Callable[..., KafkaEnv],
    command_at: Callable[[KafkaEnv], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env, ids = lived(make_stage, ["success"])
    command_at(env)
    monkeypatch.setenv("REDRIVE_KAFKA__GROUP_ID", "strangers")

    refused = checkpoints("sweep", "--older-than", "0s", "--yes")

    assert refused.exit_code == 2
    assert "no worker of" in refused.stderr
    assert env.topics.group in refused.stderr
    assert listed() == {ids[0]: "finished"}


def test_what_the_topics_keep_is_asked_for_again(make_stage: Callable[..., KafkaEnv]) -> None:
    env = make_stage(partitions=1)
    kafka = env.kafka_settings()
    ask = retention_of(kafka, verify_topics(kafka), SYSTEM)
    first = ask()
    change = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, env.topics.dlq, incremental_configs=[change])
    admin = make_admin(admin_config(kafka))
    for future in admin.incremental_alter_configs([topic]).values():
        future.result(30)

    second = ask()

    assert first is not None
    assert second is not None
    assert first.name == second.name
    assert first.name.endswith(f"/{kafka.group_id}/{kafka.events_topic}/{kafka.dlq_topic}")
    assert first.kept.letters is not None
    assert first.kept.letters >= LetterSettings().retention
    assert second.kept == Kept(events=first.kept.events, letters=None)
