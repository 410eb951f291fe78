"""Commands read topics full of hostile records: each ends with its code and no traceback."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.property.hostile_records import hostile_letters
from tests.property.test_hostile_records import HEADERS, SEED, wholes
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.cli.exits import ExitCode

if TYPE_CHECKING:
    from redrive.testing.created_topics import Kafka, Topics

RECORDS = 300
"""On each topic."""
SHOWN = 1
EVER = ("--since", "36500d")
OK = frozenset({ExitCode.OK})
OK_OR_FOUND = OK | {ExitCode.ENDED_BADLY}


@pytest.mark.invariant("P14")
@pytest.mark.usefixtures("command_line")
def test_every_reading_command_ends_well_on_topics_full_of_hostile_records(
    kafka: Kafka, topics: Topics, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    for topic in (topics.events, topics.results, topics.dlq):
        fill(kafka, topic, dice)

    commit(kafka, topics)
    wrong: list[str] = []

    def ran(*arguments: str, ends: frozenset[ExitCode] = OK) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        raised = result.exception
        if raised is not None and not isinstance(raised, SystemExit):
            wrong.append(f"{arguments}: {raised!r}")
        elif result.exit_code not in ends or "Traceback" in result.output:
            wrong.append(f"{arguments}: {result.exit_code} {result.output[-300:]}")
        return result

    listed = json.loads(ran("dlq", "list", "--json", "--limit", "500").stdout)["letters"]
    for command in ("list", "groups"):
        ran("dlq", command)
    ran("dlq", "groups", "--json")
    ran("dlq", "figures", ends=OK_OR_FOUND)
    ran("dlq", "export", "--output", str(tmp_path / "letters.jsonl"))
    ran("dlq", "import", str(tmp_path / "letters.jsonl"), ends=OK_OR_FOUND)
    for letter in dice.sample(listed, SHOWN):
        ran("dlq", "show", "--", letter["dlq_id"], ends=OK_OR_FOUND)
        ran("dlq", "show", "--json", "--reveal", "--", letter["dlq_id"], ends=OK_OR_FOUND)
        ran("run", "show", *EVER, "--", letter["event_id"] or "none", ends=OK_OR_FOUND)
    ran("doctor", ends=OK_OR_FOUND)
    ran("doctor", "audit", ends=OK_OR_FOUND)

    assert wrong == []
    assert len(listed) > 20
    # As many as are open, those too of which only a part can be read.
    lines = (tmp_path / "letters.jsonl").read_text().splitlines()
    assert len(lines) == len([letter for letter in listed if letter["state"] == "open"])


def commit(kafka: Kafka, topics: Topics) -> None:
    """Let the group have passed the first event: else no audit can tell anything."""
    servers = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topics.group}
    consumer = Consumer(servers)
    consumer.commit(offsets=[TopicPartition(topics.events, 0, 1)], asynchronous=False)
    consumer.close()


def fill(kafka: Kafka, topic: str, dice: random.Random) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "acks": "all"})
    for record in hostile_letters(wholes(), RECORDS, dice, headers=HEADERS):
        producer.produce(
            topic,
            record.value,
            record.key,
            partition=record.tp.partition,
            headers=list(record.headers),
        )
    assert producer.flush(30) == 0
