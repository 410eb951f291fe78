"""Letters by the hundred thousand: time and peak memory of `redrive dlq list` and `dlq groups`.

Prints one JSON line per figure; each command runs as a process of its own, from its start to its
end, against a loop of the same client that only reads the same records. Usage:
python benchmarks/letters.py [--letters N]. Needs Java and Maven (it starts a broker of its own);
takes about a minute and a half.

N9, redrive of the letters against a raw produce of the same bytes, belongs into `main`, after the
reading: the same topic serves it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from redrive.clock import SYSTEM
from redrive.dead_letter.record import (
    Attempt,
    Cause,
    CheckpointRef,
    DeadLetter,
    GraphRef,
    LetterError,
    dlq_id,
)
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.kafka.client import producer_config, reader_config
from redrive.kafka.connect import make_consumer, make_producer
from redrive.kafka.options import KafkaSettings
from redrive.redriving import read_letters
from redrive.retry.kinds import Kind, Reason
from redrive.testing.broker import LocalBroker
from redrive.testing.letters import dead_letter, store_letters
from redrive.testing.stage import event
from redrive.testing.topics import create_topics

PARTITIONS = 8
CAUSES = 40
REDRIVEN = 10
TRACEBACK = "".join(
    f'  File "/app/agents/step_{n}.py", line {n}, in call\n    return await client.post(url)\n'
    for n in range(15)
)


def letter(number: int, now: datetime) -> DeadLetter:
    """Return a letter as a worker writes them: 4 attempts, a traceback, an event of 1 kB."""
    cause = number % CAUSES
    sent = event({"text": "x" * 600, "number": number}, workflow_id=f"flow-{cause % 5}")
    at = now - timedelta(seconds=number)
    text = f"HTTP 503 from https://models.example/v1/{cause}: request {uuid.uuid4()} was not served"
    tries = [
        Attempt(
            number=count,
            started_at=at,
            ended_at=at,
            kind=Kind.TRANSIENT,
            type="httpx.HTTPStatusError",
            message=text,
            delay_s=2.0**count,
            worker="worker-1",
        )
        for count in range(1, 5)
    ]
    return dead_letter(
        sent,
        topic="workflow-events",
        partition=number % PARTITIONS,
        offset=number,
        timestamp=at,
        error=LetterError(type="httpx.HTTPStatusError", message=text, traceback=TRACEBACK),
        retry_count=3,
        kind=Kind.TRANSIENT,
        reason=Reason.RETRIES_EXHAUSTED,
        fingerprint=f"{cause:016x}",
        node=f"node-{cause}",
        cause_chain=[Cause(type="httpx.HTTPStatusError", message=text)],
        attempts=tries,
        checkpoint=CheckpointRef(thread_id=sent.event_id, checkpoint_id=str(uuid.uuid4())),
        graph=GraphRef(name="flow", version="9b1f2c7d40ae"),
    )


def store(kafka: KafkaSettings, count: int) -> int:
    """Write the letters, and that every tenth was redriven; return the letters' bytes."""
    now = SYSTEM.now()
    size = store_letters(kafka, (letter(number, now) for number in range(count)))
    producer = make_producer(producer_config(kafka))
    for number in range(0, count, REDRIVEN):
        place = number % PARTITIONS
        told = LetterState(
            dlq_id=dlq_id("workflow-events", place, number, count=0),
            event_id=None,
            state=State.REDRIVEN,
            timestamp=now,
            actor="a",
        )
        headers: list[tuple[str, str | bytes | None]] = [*STATE_HEADERS]
        producer.produce(kafka.dlq_topic, told.to_bytes(), partition=place, headers=headers)
    if producer.flush(60):
        raise TimeoutError("the states were not stored in 60 s")
    return size


def read_raw(kafka: KafkaSettings) -> float:
    """Return the seconds that reading alone takes."""
    consumer = make_consumer(reader_config(kafka, partition_eof=True))
    places = [TopicPartition(kafka.dlq_topic, n, OFFSET_BEGINNING) for n in range(PARTITIONS)]
    start = time.perf_counter()
    consumer.assign(places)
    unread = PARTITIONS
    while unread:
        for message in consumer.consume(500, 0.05):
            error = message.error()
            unread -= error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - its name
    took = time.perf_counter() - start
    consumer.close()
    return took


def run(kafka: KafkaSettings, *arguments: str) -> tuple[float, float, float]:
    """Run a command; return its seconds, those of the CPU, and its peak memory in MiB."""
    environ = os.environ | {
        "REDRIVE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "REDRIVE_KAFKA__DLQ_TOPIC": kafka.dlq_topic,
    }
    start = time.perf_counter()
    command = [sys.executable, "-m", "redrive", *arguments]
    process = subprocess.Popen(  # noqa: S603 - this interpreter
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    took_s = time.perf_counter() - start
    return took_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def bytes_a_letter(kafka: KafkaSettings) -> float:
    """Return what the view keeps of each letter in memory."""
    tracemalloc.start()
    view = read_letters(kafka)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / len(view.letters)


def figures(kafka: KafkaSettings) -> Iterator[dict[str, object]]:
    raw_s = read_raw(kafka)
    for command in ("dlq groups", "dlq list", "dlq list --json --limit 1000"):
        took_s, cpu_s, peak_mib = run(kafka, *command.split())
        yield {
            "figure": "letters",
            "what": f"{command} / only reading",
            "value": round(took_s / raw_s, 2),
            "seconds": round(took_s, 2),
            "cpu_seconds": round(cpu_s, 2),
            "raw_seconds": round(raw_s, 2),
            "peak_mib": round(peak_mib),
        }
    yield {
        "figure": "letters",
        "what": "memory of the view, bytes a letter",
        "value": round(bytes_a_letter(kafka)),
    }


def main(letters: int) -> None:
    with LocalBroker() as broker:
        topics = create_topics(broker.bootstrap_servers, partitions=PARTITIONS)
        kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, dlq_topic=topics.dlq, group_id=topics.group
        )
        size = store(kafka, letters)
        machine = {"machine": platform.machine(), "cores": os.cpu_count()}
        print(json.dumps({**machine, "letters": letters, "bytes_a_letter": size // letters}))
        for figure in figures(kafka):
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--letters", type=int, default=100_000)
    main(arguments.parse_args().letters)
