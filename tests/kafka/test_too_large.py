"""Events whose answer, or whose letter, is too large for its topic: each ends, and stops nobody."""

import json
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.dead_letter.record import DeadLetter
from redrive.kafka.unreadable import WHY
from redrive.redriving.deciding import Refusal
from redrive.redriving.engine import redrive
from redrive.redriving.jobs import Order
from redrive.redriving.selection import Selection
from redrive.redriving.views import read_letters
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

TEN_MB = 10 * 2**20
UNPACKED_BYTES = 108 * 10**6
BOMB_RECORDS = 4


def long_names() -> list[tuple[str, str | bytes | None]]:
    """Give names of headers: text, whose control characters are one byte there, and six in JSON."""
    return [("\1" * 300_000 + str(number), b"x") for number in range(3)]


def failing(**changes: object) -> bytes:
    whole = json.loads(event({"fate": "permanent"}).to_bytes())
    return json.dumps(whole | changes).encode()


@pytest.mark.invariant("P1", "P6", "P7")
def test_what_is_too_large_for_its_topic_ends_with_a_letter_and_stops_nobody(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL="none")
    # Compressed, this fits its topic; in a letter as it is, it does not.
    packed = failing(metadata={"text": "the same again, " * (TEN_MB // 16)})
    hostile = failing(workflow_run_id="\0" * 1_000_000)
    producer = Producer(
        {
            "bootstrap.servers": env.bootstrap_servers,
            "compression.type": "zstd",
            "message.max.bytes": 2 * TEN_MB,
        }
    )
    producer.produce(env.topics.events, packed, b"packed", 0)
    producer.produce(env.topics.events, hostile, b"hostile", 0)
    named = long_names()
    producer.produce(env.topics.events, failing(), b"headers", 0, headers=named)
    assert producer.flush(30) == 0
    env.send([event({"fate": "success"}) for _ in range(20)])

    with env.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    evidence = gather(env.bootstrap_servers, env.topics)
    verdict = judge(evidence)
    assert verdict.findings == []
    assert verdict.results["success"] == 20
    found = [DeadLetter.model_validate_json(record.value or b"") for record in evidence.letters]
    letters = {letter.source.key: letter for letter in found}
    assert letters[b"packed"].source.value == packed
    assert letters[b"hostile"].reason == "unreadable"
    left_out = letters[b"headers"].source.left_out
    assert left_out is not None
    assert left_out.headers == 3


@pytest.mark.invariant("P1", "P7")
def test_a_batch_that_the_client_cannot_unpack_ends_with_letters_and_stops_nobody(
    make_stage: Callable[..., KafkaEnv], command_at: Callable[[KafkaEnv], None]
) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL="none")
    healthy = [event({"fate": "success"}) for _ in range(20)]
    env.send(healthy[:10])
    # Some kilobytes on the topic; more than librdkafka unpacks, which asks for them for ever.
    producer = Producer(
        {
            "bootstrap.servers": env.bootstrap_servers,
            "compression.type": "zstd",
            "message.max.bytes": 2 * UNPACKED_BYTES,
            "batch.size": 2 * UNPACKED_BYTES,
            "queue.buffering.max.kbytes": 2**20,
            "linger.ms": 1_000,
        }
    )
    for _ in range(BOMB_RECORDS):
        producer.produce(env.topics.events, bytes(UNPACKED_BYTES // BOMB_RECORDS), b"bomb", 0)
    assert producer.flush(60) == 0
    env.send(healthy[10:])

    with env.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=90)
        assert worker.stop() == 0

    command_at(env)
    audited = CliRunner().invoke(app, ["doctor", "audit", "--json"])
    read = read_letters(env.kafka_settings())
    assert audited.exit_code == ExitCode.OK, audited.output
    assert json.loads(audited.stdout)["results"] == {"success": 20}
    assert [(one.reason, one.event_id) for one in read.letters] == [
        ("unreadable", None)
    ] * BOMB_RECORDS
    assert {one.message for one in read.letters} == {WHY}


@pytest.mark.invariant("P6", "P13")
def test_an_event_that_its_letter_does_not_hold_is_driven_from_its_topic_or_refused(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL="none")
    named = long_names()
    producer = Producer({"bootstrap.servers": env.bootstrap_servers})
    sent = failing()
    producer.produce(env.topics.events, sent, b"there", 0, headers=named)
    assert producer.flush(30) == 0
    with env.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0
    settings = env.kafka_settings()

    driven = redrive(settings, Selection(), Order(mode="restart"), actor="anna")

    assert len(driven.done) == 1
    assert driven.refused == []
    records = gather(env.bootstrap_servers, env.topics).events
    assert [record.value for record in records] == [sent, sent]
    assert [name for name, _ in records[1].headers][:3] == [name for name, _ in named]

    with env.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0
    end = TopicPartition(env.topics.events, 0, 2)
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    admin.delete_records([end])[end].result(30)

    again = redrive(settings, Selection(), Order(mode="restart"), actor="anna")

    assert again.done == []
    assert [no.refusal for no in again.refused] == [Refusal.EVENT_GONE]
    assert f"{env.topics.events}/0@1" in again.refused[0].why
