"""What is done to letters, recorded once more on a topic of its own, on a real broker."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict

import pytest
from confluent_kafka import Producer
from langgraph.graph import START, StateGraph
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.clock import SYSTEM
from redrive.dead_letter.audit_chain import read_audit_record
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.errors import SettingsError
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.kafka.topic_admin import create_topics, verify_topics
from redrive.redriving.audit_check import NotedHead, check_audit_topic
from redrive.redriving.engine import move, redrive
from redrive.redriving.following import follow
from redrive.redriving.selection import Selection
from redrive.settings import Settings
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.wiring import LangGraphKafkaConsumer

MakeStage = Callable[..., KafkaEnv]


class Words(TypedDict, total=False):
    fails: bool
    text: str


@pytest.mark.invariant("P13")
async def test_each_action_is_recorded_in_its_transaction_and_forgeries_are_found(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, is_broken = make_stage(partitions=1), True
    topic = f"audit-{uuid.uuid4().hex[:8]}"
    kafka = env.kafka_settings().model_copy(update={"audit_topic": topic})

    async def think(_: Words) -> Words:
        if is_broken:
            raise ValueError("no rights")
        return {"text": "done"}

    graph: Any = StateGraph(Words)
    graph.add_node("think", think).add_edge(START, "think")
    settings = Settings(kafka=kafka, checkpoints=CheckpointSettings(url="none"))
    with pytest.raises(SettingsError, match=f"'{topic}' .* has 0 partitions"):
        move(kafka, Selection(), State.PARKED, actor="bob")
    create_topics(kafka, partitions=1)
    assert verify_topics(kafka).findings == ()

    sent = [event({"fails": True}) for _ in range(3)]
    one, two, three = (Selection.of([each.event_id]) for each in sent)
    async with LangGraphKafkaConsumer(settings, {"*": graph}):
        env.send(sent)
        await asyncio.to_thread(env.wait_settled, timeout_s=30)
        is_broken = False
        await asyncio.gather(
            asyncio.to_thread(move, kafka, one, State.DISCARDED, actor="anna", reason="too old"),
            asyncio.to_thread(move, kafka, two, State.PARKED, actor="bob"),
        )
        report = await asyncio.to_thread(partial(redrive, kafka, three, actor="carl"))
        ended = partial(follow, kafka, report, timeout=timedelta(seconds=30))
        assert len(await asyncio.to_thread(lambda: list(ended()))) == 1
    # Whichever of two that meet was shut out, another try ends.
    move(kafka, one, State.DISCARDED, actor="anna", reason="too old")
    move(kafka, two, State.PARKED, actor="bob")

    found = check_audit_topic(kafka)
    records = read_topic(env.bootstrap_servers, topic)
    done = [told for record in records if (told := read_audit_record(record))]
    assert found.findings == []
    assert sorted((told.done.state.value, told.done.actor) for told in done if told.seq) == [
        ("discarded", "anna"),
        ("parked", "bob"),
        ("redriven", "carl"),
    ]
    assert [told.done.state for told in done if told.seq is None] == [State.RESOLVED]
    head = f"0:{found.partitions[0].chain.head}"
    assert check_audit_topic(kafka, noted=[NotedHead.parse(head)]).findings == []

    forge = Producer({"bootstrap.servers": env.bootstrap_servers})
    chained = next(record for record in records if (read_audit_record(record) or done[0]).seq)
    forge.produce(topic, chained.value, chained.key, partition=0)
    forge.produce(topic, b"{", b"k", partition=0)
    unseen = LetterState(
        dlq_id="letter",
        event_id=None,
        state=State.DISCARDED,
        timestamp=SYSTEM.now() + timedelta(hours=1),
        actor="mallory",
    )
    forge.produce(env.topics.dlq, unseen.to_bytes(), partition=0, headers=[*STATE_HEADERS])
    assert forge.flush(10) == 0
    for name, value in env.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REDRIVE_KAFKA__AUDIT_TOPIC", topic)
    noted = f"{head[:-4]}0000"

    ran = CliRunner().invoke(app, ["doctor", "audit-topic", "--json", "--noted", noted])

    assert ran.exit_code == 1, ran.output
    kinds = [each["kind"] for each in json.loads(ran.stdout)["findings"]]
    assert kinds == ["forked", "unreadable", "missing", "unrecorded"]
