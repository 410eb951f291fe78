"""Only what is signed counts, on a real worker: events, and what is said of letters."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest
from confluent_kafka import Producer
from tests.kafka.conftest import MakeStage
from tests.kafka.test_redriving import Story, ends, letters, records, settled, states
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.events import ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.kafka.log import ConsumerRecord
from redrive.kafka.publish import publish_event
from redrive.redriving.deciding import Refusal
from redrive.redriving.engine import redrive
from redrive.redriving.redrive_report import Report
from redrive.redriving.selection import Selection
from redrive.redriving.views import read_letters
from redrive.retry.kinds import Reason
from redrive.security_settings import SecuritySettings
from redrive.settings import Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.wiring import LangGraphKafkaConsumer

KEYS = {"ops": "o" * 32, "airflow": "a" * 32}
PRODUCERS = {"airflow": {"workflows": ["report-*"]}}
WORKER = SecuritySettings.model_validate(
    {"signing_keys": KEYS, "sign_with": "ops", "require": "refuse", "producers": PRODUCERS}
)
AIRFLOW = SecuritySettings.model_validate({"signing_keys": {"airflow": KEYS["airflow"]}})


OF_AIRFLOW = {"REDRIVE_SECURITY__SIGNING_KEYS__AIRFLOW": KEYS["airflow"]}
OF_OPS = OF_AIRFLOW | {
    "REDRIVE_SECURITY__SIGNING_KEYS__OPS": KEYS["ops"],
    "REDRIVE_SECURITY__SIGN_WITH": "ops",
    "REDRIVE_SECURITY__REQUIRE": "refuse",
}


async def send(env: KafkaEnv, told: WorkflowEvent) -> None:
    signer = AIRFLOW.trust().signer
    call = partial(publish_event, env.kafka_settings(), told, signer=signer)
    await asyncio.to_thread(call)


async def command(env: KafkaEnv, keys: dict[str, str], *arguments: str) -> str:
    call = partial(CliRunner().invoke, app, arguments, env=env.environ() | keys)
    ran = await asyncio.to_thread(call)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def produce(env: KafkaEnv, record: ConsumerRecord, *, partition: int) -> None:
    producer = Producer({"bootstrap.servers": env.bootstrap_servers})
    headers: list[tuple[str, str | bytes | None]] = list(record.headers)
    producer.produce(record.tp.topic, record.value, record.key, partition, headers=headers)
    assert producer.flush(30) == 0


async def drive(env: KafkaEnv, selection: Selection) -> Report:
    call = partial(redrive, env.kafka_settings(), selection, actor="anna", trust=WORKER.trust())
    return await asyncio.to_thread(call)


def reasons(env: KafkaEnv) -> dict[str, tuple[ResultStatus, str | None]]:
    """Return how events ended, by the places of their records."""
    found = {}
    for record in records(env, "results"):
        told = WorkflowResultEvent.from_bytes(record.value)
        assert told.answers is not None
        tp = f"{told.answers.partition}@{told.answers.offset}"
        info = told.error_info
        found[tp] = (told.status, None if info is None else info.reason.value)
    return found


@pytest.mark.invariant("P1", "P13", "P15")
async def test_only_what_is_signed_runs_or_moves_a_letter(make_stage: MakeStage) -> None:
    env, story = make_stage(partitions=2), Story()
    settings = Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url=f"sqlite:///{env.folder}/checkpoints.db"),
        security=WORKER,
    )
    report, other = event({}, workflow_id="report-7"), event({}, workflow_id="report-7")
    async with LangGraphKafkaConsumer(settings, {"*": story.graph("write")}):
        await send(env, report)
        (first,) = records(env, "events")
        on = first.tp.partition
        # What whoever may write to the topic can do with it, and without it.
        produce(env, first, partition=1 - on)
        produce(env, first._replace(value=other.to_bytes()), partition=on)
        produce(env, first._replace(headers=()), partition=on)
        await command(env, OF_AIRFLOW, "send", "pay")
        await settled(env)
        ended, kept = reasons(env), {one.dlq_id: one for one in letters(env)}
        ran = story.ran["write"]

        (mine,) = [one for one in kept.values() if one.event_id == other.event_id]
        forged = LetterState(
            dlq_id=mine.dlq_id,
            event_id=mine.event_id,
            state=State.DISCARDED,
            timestamp=mine.timestamp,
            actor="anna",
        )
        of_letter = ConsumerRecord(
            first.tp._replace(topic=env.topics.dlq),
            0,
            None,
            forged.to_bytes(),
            STATE_HEADERS,
            None,
        )
        produce(env, of_letter, partition=on)
        everything = await drive(env, Selection())
        (ending,) = await ends(env, await drive(env, Selection.of([mine.dlq_id])))
        await settled(env)

    unsigned = (ResultStatus.ERROR, "unsigned")
    assert ended.pop(f"{on}@0") == (ResultStatus.SUCCESS, None)
    assert ran == 1
    assert sorted(ended.values()) == [(ResultStatus.ERROR, "not_allowed"), *[unsigned] * 3]
    assert sorted(one.reason for one in kept.values()) == [
        Reason.NOT_ALLOWED,
        *[Reason.UNSIGNED] * 3,
    ]
    # Nobody vouches for what all of them hold: a person names the one that is hers, and signs it.
    assert [one.refusal for one in everything.refused] == [Refusal.NOT_SIGNED] * 4
    assert ending.answer.status is ResultStatus.SUCCESS
    assert story.ran["write"] == 2
    assert [state.state for state in states(env)] == [
        State.DISCARDED,
        State.REDRIVEN,
        State.RESOLVED,
    ]
    shown = json.loads(await command(env, OF_OPS, "dlq", "show", mine.dlq_id, "--json"))
    assert [(one["signed_by"], one["counts"]) for one in shown["states"]] == [
        (None, False),
        ("ops", True),
        ("ops", True),
    ]
    assert (shown["state"], shown["signed_by"], shown["vouched"]) == (
        "resolved",
        "ops",
        "event_not",
    )
    page = await command(env, OF_OPS, "dlq", "show", mine.dlq_id)
    assert "by anna (claimed; does not count: it is not signed)" in page
    assert "by anna (signed by key ops)" in page
    view = read_letters(env.kafka_settings(), verifier=WORKER.trust().verifier)
    stands = {one.dlq_id: (one.state, one.signed_by) for one in view.letters}
    assert stands.pop(mine.dlq_id) == (State.RESOLVED, "ops")
    assert set(stands.values()) == {(State.OPEN, None)}
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []
