"""Letters that wait too long for their topic are spooled; once it is there, none is there twice."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from langgraph.graph import END, START, StateGraph
from structlog.testing import capture_logs
from tests.kafka.guarded import forbid, forbid_no_more, grant, login

from redrive.dead_letter.letter_settings import LetterSettings
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.spool import SpooledLetter, read_spool
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.kafka.topic_admin import create_topics
from redrive.notify.notify_settings import NotifySettings
from redrive.redriving.spooled import SpoolCounts, publish_spool
from redrive.settings import Settings
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics as create_test_topics
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.proxy import END_TXN, PRODUCE, Proxy
from redrive.testing.reading import read_topic
from redrive.testing.webhook import Webhook
from redrive.testing.worker_process import wait_until
from redrive.wiring import LangGraphKafkaConsumer

OTHERS = 20


class State(TypedDict, total=False):
    fate: str
    text: str


async def work(state: State) -> State:
    if state["fate"] == "gated":
        GATE.entered.set()
        await GATE.opened.wait()
    if state["fate"] != "success":
        raise ValueError("the prompt has no question")
    return {"text": "short"}


class Gate:
    """Where a node waits, so that a test can act while it runs."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()


GATE = Gate()
BUILDER = StateGraph(State)
BUILDER.add_node("work", work)
BUILDER.add_edge(START, "work")
BUILDER.add_edge("work", END)


def _settings(env: KafkaEnv, spool: Path, **kafka: object) -> Settings:
    return Settings(
        kafka=env.kafka_settings().model_copy(update=kafka),
        checkpoints=CheckpointSettings(url="none"),
        letters=LetterSettings(spool=str(spool), spool_after=timedelta(seconds=3)),
    )


@pytest.mark.invariant("P6")
async def test_a_letter_without_its_topic_is_spooled_and_waits_and_others_go_on(
    make_stage: Callable[..., KafkaEnv], tmp_path: Path
) -> None:
    env = make_stage(partitions=2)
    spool = tmp_path / "letters.jsonl"
    dead = [event({"fate": "permanent"}) for _ in range(2)]

    with capture_logs() as logs, Webhook() as webhook:
        notify = NotifySettings.model_validate({"urls": {"team": webhook.url}})
        settings = _settings(env, spool).model_copy(update={"notify": notify})
        async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
            await _answered(env, [event({"fate": "success"})])
            await asyncio.to_thread(_delete, env, env.topics.dlq)
            env.send(dead, partition=0)
            await asyncio.to_thread(_wait_for_alarms, logs, len(dead))
            await _answered(env, [event({"fate": "success"}) for _ in range(OTHERS)])
            assert not await asyncio.to_thread(env.settled)
            assert _titles(webhook)[0].endswith(
                "Kafka does not accept dead letters: they are spooled"
            )
            spooled = [one for one in read_spool(spool) if isinstance(one, SpooledLetter)]
            await asyncio.to_thread(create_topics, env.kafka_settings(), partitions=2)
            await asyncio.to_thread(env.wait_settled, timeout_s=30)

    assert {_event_id(one) for one in spooled} == {e.event_id for e in dead}
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": OTHERS + 1, "error": 2}
    assert verdict.letters == {"permanent": 2}
    assert sum(log["event"] == "letter.spooled" for log in logs) == 2
    # What lies on the topic is what was spooled, byte for byte.
    records = read_topic(env.bootstrap_servers, env.topics.dlq)
    assert {(r.tp.partition, r.key, r.value, r.headers) for r in records} == {
        (one.partition, one.key, one.value, one.headers) for one in spooled
    }

    counts = await asyncio.to_thread(publish_spool, spool, env.kafka_settings())

    assert counts == SpoolCounts(published=0, already_there=2, torn=0)
    assert len(read_topic(env.bootstrap_servers, env.topics.dlq)) == 2


@pytest.mark.invariant("P6", "P7")
async def test_a_forbidden_letter_is_spooled_and_waits_and_others_go_on(
    guarded: LocalBroker, tmp_path: Path
) -> None:
    env, settings = _as_user(guarded, tmp_path)
    topics, spool = env.topics, tmp_path / "letters.jsonl"
    dead = [event({"fate": "permanent"}) for _ in range(2)]

    with capture_logs() as logs:
        async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
            await _answered(env, [event({"fate": "success"})])
            forbid(guarded, "full", AclOperation.WRITE, topics.dlq)
            env.send(dead, partition=0)
            await asyncio.to_thread(_wait_for_alarms, logs, len(dead))
            await _answered(env, [event({"fate": "success"}) for _ in range(OTHERS)])
            assert not await asyncio.to_thread(env.settled)
            assert read_topic(env.bootstrap_servers, topics.dlq) == []
            forbid_no_more(guarded, "full", AclOperation.WRITE, topics.dlq)
            await asyncio.to_thread(env.wait_settled, timeout_s=30)

    spooled = [one for one in read_spool(spool) if isinstance(one, SpooledLetter)]
    assert {_event_id(one) for one in spooled} == {e.event_id for e in dead}
    verdict = judge(gather(env.bootstrap_servers, topics))
    assert verdict.findings == []
    assert verdict.results == {"success": OTHERS + 1, "error": 2}
    assert verdict.letters == {"permanent": 2}
    assert len(read_topic(env.bootstrap_servers, topics.dlq)) == 2


async def test_a_result_that_is_forbidden_waits_and_stays_what_it_is(
    guarded: LocalBroker, tmp_path: Path
) -> None:
    env, settings = _as_user(guarded, tmp_path)
    asked = event({"fate": "success"})

    with capture_logs() as logs:
        async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
            forbid(guarded, "full", AclOperation.WRITE, env.topics.results)
            env.send([asked])
            await asyncio.to_thread(_wait_for, "settle.outcomes_wait", logs, 1)
            forbid_no_more(guarded, "full", AclOperation.WRITE, env.topics.results)
            await asyncio.to_thread(env.wait_settled, timeout_s=30)

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert (verdict.results, verdict.letters) == ({"success": 1}, {})


@pytest.mark.invariant("P2", "P6")
@pytest.mark.parametrize(
    ("kind", "stored"), [(PRODUCE, 0), (END_TXN, 1)], ids=["produce", "end of transaction"]
)
async def test_a_letter_whose_acknowledgement_is_lost_is_there_once(
    kind: int, stored: int, make_stage: Callable[..., KafkaEnv], tmp_path: Path
) -> None:
    env, spool = make_stage(partitions=2), tmp_path / "letters.jsonl"
    dead = event({"fate": "permanent"})

    def letters() -> int:
        return len(read_topic(env.bootstrap_servers, env.topics.dlq))

    with Proxy(env.bootstrap_servers) as proxy, capture_logs() as logs:
        settings = _settings(env, spool, bootstrap_servers=proxy.address)
        async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
            await _answered(env, [event({"fate": "success"})])
            proxy.lose_answer(kind, after=b"redrive-reason")
            env.send([dead])
            await asyncio.to_thread(_wait_for_alarms, logs, 1)
            stored_then = await asyncio.to_thread(letters)
            proxy.mend()
            await _answered(env, [event({"fate": "success"}) for _ in range(OTHERS)])
            await asyncio.to_thread(env.wait_settled, timeout_s=60)

    assert stored_then == stored
    (spooled,) = read_spool(spool)
    assert isinstance(spooled, SpooledLetter)
    (record,) = read_topic(env.bootstrap_servers, env.topics.dlq)
    assert record.value == spooled.value
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": OTHERS + 1, "error": 1}
    assert verdict.letters == {"permanent": 1}


async def test_a_letter_that_its_topic_does_not_take_is_spooled(
    make_stage: Callable[..., KafkaEnv], tmp_path: Path
) -> None:
    env = make_stage(partitions=1)
    spool = tmp_path / "letters.jsonl"
    dead = event({"fate": "permanent", "text": "x" * 100_000})

    with capture_logs() as logs:
        async with LangGraphKafkaConsumer(_settings(env, spool), {"*": BUILDER}):
            await _answered(env, [event({"fate": "success"})])
            # After the worker has looked how much it takes.
            await asyncio.to_thread(_set_largest, env, 20_000)
            env.send([dead])
            await asyncio.to_thread(_wait_for_alarms, logs, 1)
            await asyncio.to_thread(_set_largest, env, 3_000_000)
            await asyncio.to_thread(env.wait_settled, timeout_s=30)

    (spooled,) = read_spool(spool)
    assert isinstance(spooled, SpooledLetter)
    assert DeadLetter.model_validate_json(spooled.value).source.value == dead.to_bytes()
    assert judge(gather(env.bootstrap_servers, env.topics)).letters == {"permanent": 1}


@pytest.mark.invariant("P6")
async def test_a_letter_that_no_broker_takes_is_spooled_and_stored_when_it_is_back(
    breakable: LocalBroker, tmp_path: Path
) -> None:
    spool = tmp_path / "letters.jsonl"
    broker = breakable
    with capture_logs() as logs:
        servers = broker.bootstrap_servers
        env = KafkaEnv(servers, create_test_topics(servers, partitions=1), tmp_path)
        async with LangGraphKafkaConsumer(_settings(env, spool), {"*": BUILDER}):
            env.send([event({"fate": "gated"})])
            await asyncio.wait_for(GATE.entered.wait(), 30)
            await asyncio.to_thread(broker.kill)
            GATE.opened.set()
            await asyncio.to_thread(_wait_for_alarms, logs, 1)
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(env.wait_settled, timeout_s=60)
        records = read_topic(servers, env.topics.dlq)

    (spooled,) = read_spool(spool)
    assert isinstance(spooled, SpooledLetter)
    # On a busy machine the session may end before the broker is back: then the event runs again.
    (stored,) = [DeadLetter.model_validate_json(record.value or b"") for record in records]
    kept = DeadLetter.model_validate_json(spooled.value)
    assert (stored.dlq_id, stored.source) == (kept.dlq_id, kept.source)


def _titles(webhook: Webhook) -> list[str]:
    return [str(message["title"]) for message in webhook.received]


def _as_user(guarded: LocalBroker, folder: Path) -> tuple[KafkaEnv, Settings]:
    """Return a stage on the guarded broker, and the settings of a worker that has its rights."""
    topics = create_test_topics(guarded.bootstrap_servers, partitions=2)
    grant(guarded, "full", AclOperation.ALL, *topics.names)
    for kind in (ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID):
        grant(guarded, "full", AclOperation.ALL, "*", on=kind)
    env = KafkaEnv(guarded.bootstrap_servers, topics, folder)
    by = {"bootstrap_servers": guarded.servers_with_passwords, "config": login("full")}
    return env, _settings(env, folder / "letters.jsonl", **by)


def _event_id(letter: SpooledLetter) -> str:
    source = DeadLetter.model_validate_json(letter.value).source.value
    found = json.loads(source or b"")["event_id"]
    assert isinstance(found, str)
    return found


async def _answered(env: KafkaEnv, events: list[WorkflowEvent]) -> None:
    """Send events, and return once each has an answer."""
    env.send(events)
    wanted = {e.event_id for e in events}

    def all_there() -> bool:
        records = read_topic(env.bootstrap_servers, env.topics.results)
        answers = (WorkflowResultEvent.from_bytes(record.value) for record in records)
        return wanted <= {answer.correlation_id for answer in answers}

    await asyncio.to_thread(
        wait_until, all_there, timeout_s=45, what="the others' answers", every_s=0.5
    )


def _wait_for_alarms(logs: Sequence[Mapping[str, object]], count: int) -> None:
    _wait_for("letter.spooled", logs, count)


def _wait_for(name: str, logs: Sequence[Mapping[str, object]], count: int) -> None:
    def reached() -> bool:
        return sum(log["event"] == name for log in logs) >= count

    wait_until(reached, timeout_s=60, what=f"{name!r} {count} times")


def _delete(env: KafkaEnv, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(timeout=30)
    wait_until(
        lambda: topic not in admin.list_topics(timeout=10).topics,
        timeout_s=60,
        what=f"{topic} is gone",
        every_s=0.2,
    )


def _set_largest(env: KafkaEnv, limit_bytes: int) -> None:
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    entry = ConfigEntry(
        "max.message.bytes", str(limit_bytes), incremental_operation=AlterConfigOpType.SET
    )
    topic = ConfigResource(ResourceType.TOPIC, env.topics.dlq, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([topic]).values():
        future.result(timeout=30)
