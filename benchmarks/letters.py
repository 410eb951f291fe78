"""Letters by the hundred thousand: what it costs to look at them, and to drive them again.

Prints one JSON line per figure. Looking: `redrive dlq list` and `dlq groups`, each a process of its
own, from its start to its end, against a loop of the same client that only reads the same records.
N9: `redrive()` of all of them, in a process of its own, against a bare producer of the same
records. Usage: python benchmarks/letters.py [--letters N]. Needs Java and Maven (it starts a broker
of its own); takes three minutes, or more where the machine has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from confluent_kafka import OFFSET_BEGINNING, KafkaError, Producer, TopicPartition

from redrive.clock import SYSTEM
from redrive.dead_letter.record import (
    Cause,
    CheckpointRef,
    DeadLetter,
    GraphRef,
    LetterAttempt,
    LetterError,
)
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.kafka.client import producer_config, reader_config
from redrive.kafka.connect import make_consumer, make_producer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord
from redrive.kafka.scan import scan
from redrive.redriving import read_letters
from redrive.redriving.extracts import read_slimly
from redrive.redriving.partition import PartitionFold
from redrive.retry.kinds import Kind, Reason
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import event
from redrive.testing.stored_letters import dead_letter, store_letters

PARTITIONS = 8
CAUSES = 40
GONE = 10
IN_FLIGHT = 10_000
RAW_RUNS = 3
ACTOR = "benchmark"
DRIVE = f"""
import time
from redrive import load_settings
from redrive.redriving import Selection, redrive

kafka, start, cpu = load_settings().kafka, time.perf_counter(), time.process_time()
report = redrive(kafka, Selection(), actor={ACTOR!r})
print(time.perf_counter() - start, time.process_time() - cpu, len(report.done))
"""
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
        LetterAttempt(
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
    """Write letters, and beside every tenth what became of one that is gone; return their bytes."""
    now = SYSTEM.now()
    size = store_letters(kafka, (letter(number, now) for number in range(count)))
    producer = make_producer(producer_config(kafka))
    for number in range(0, count, GONE):
        told = LetterState(
            dlq_id=str(uuid.uuid4()),
            event_id=None,
            state=State.RESOLVED,
            timestamp=now,
            actor="worker w",
        )
        headers: list[tuple[str, str | bytes | None]] = [*STATE_HEADERS]
        tp = number % PARTITIONS
        producer.produce(kafka.dlq_topic, told.to_bytes(), partition=tp, headers=headers)
    if producer.flush(60):
        raise TimeoutError("the states were not stored in 60 s")
    return size


def read_raw(kafka: KafkaSettings) -> float:
    """Return the seconds that reading alone takes."""
    consumer = make_consumer(reader_config(kafka, partition_eof=True))
    tps = [TopicPartition(kafka.dlq_topic, n, OFFSET_BEGINNING) for n in range(PARTITIONS)]
    start = time.perf_counter()
    consumer.assign(tps)
    unread = PARTITIONS
    while unread:
        for message in consumer.consume(500, 0.05):
            error = message.error()
            unread -= error is not None and error.code() == KafkaError._PARTITION_EOF
    took = time.perf_counter() - start
    consumer.close()
    return took


def run(kafka: KafkaSettings, *arguments: str) -> tuple[float, float, float, str]:
    """Run Python; return its seconds, those of the CPU, its peak memory in MiB, and its output."""
    environ = os.environ | {
        "REDRIVE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "REDRIVE_KAFKA__DLQ_TOPIC": kafka.dlq_topic,
        "REDRIVE_KAFKA__EVENTS_TOPIC": kafka.events_topic,
        "REDRIVE_KAFKA__RESULTS_TOPIC": kafka.results_topic,
        "REDRIVE_KAFKA__RETRY_TOPIC": kafka.retry_topic,
    }
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, *arguments], env=environ, stdout=out, stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{arguments} ended with {process.returncode}")
        took_s = time.perf_counter() - start
        out.seek(0)
        return took_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, out.read()


def bytes_a_letter(kafka: KafkaSettings) -> float:
    """Return what the view keeps of each letter in memory."""
    tracemalloc.start()
    view = read_letters(kafka)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / len(view.letters)


def index_bytes_a_letter(kafka: KafkaSettings) -> float:
    """Return what a redrive keeps of each letter while it is at its partition, its event apart."""
    everything = {0: (0, sys.maxsize)}
    tracemalloc.start()
    fold = PartitionFold()
    for record in scan(kafka, kafka.dlq_topic, spans=everything):
        fold.add(record)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / sum(1 for _ in fold)


def written(kafka: KafkaSettings) -> list[ConsumerRecord]:
    """Return what the redrive wrote: each event, and what it says of its letter."""
    states = (
        record
        for record in scan(kafka, kafka.dlq_topic)
        if isinstance(told := read_slimly(record), LetterState) and told.actor == ACTOR
    )
    events = sorted(scan(kafka, kafka.events_topic), key=lambda record: record.tp)
    pairs = zip(events, sorted(states, key=lambda record: record.tp), strict=True)
    return [record for pair in pairs for record in pair]


def produce_raw(kafka: KafkaSettings, records: list[ConsumerRecord]) -> tuple[float, float]:
    """Return the seconds that a bare producer takes for these records, and those of the CPU."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    start, cpu = time.perf_counter(), time.process_time()
    for record in records:
        topic, partition = record.tp
        while True:
            try:
                producer.produce(
                    topic, record.value, record.key, partition, headers=list(record.headers)
                )
            except BufferError:
                producer.poll(0.01)
            else:
                break
    if producer.flush(60):
        raise TimeoutError("the records were not stored in 60 s")
    return time.perf_counter() - start, time.process_time() - cpu


def redriven(kafka: KafkaSettings, letters: int) -> dict[str, object]:
    """Drive all letters that wait, and return N9."""
    # The first transactional producer of a broker waits for its coordinator; workers had it.
    make_producer(producer_config(kafka, transactional_id="first")).init_transactions(30)
    *_, peak_mib, out = run(kafka, "-c", DRIVE)
    took_s, cpu_s, driven = (float(number) for number in out.split())
    if driven != letters:
        raise RuntimeError(f"{driven:g} letters were driven of {letters}")
    records = written(kafka)
    runs = sorted(produce_raw(kafka, records) for _ in range(RAW_RUNS))
    raw_s, raw_cpu_s = runs[RAW_RUNS // 2]
    return {
        "figure": "N9",
        "what": "raw produce of the same records / redrive",
        "value": round(raw_s / took_s, 2),
        "goal": ">= 0.3",
        "seconds": round(took_s, 2),
        "raw_seconds": round(raw_s, 2),
        "letters": letters,
        "records": len(records),
        "bytes": sum(len(record.key or b"") + len(record.value or b"") for record in records),
        "cpu_seconds": round(cpu_s, 2),
        "raw_cpu_seconds": round(raw_cpu_s, 2),
        "peak_mib": round(peak_mib),
    }


def figures(kafka: KafkaSettings, letters: int) -> Iterator[dict[str, object]]:
    raw_s = read_raw(kafka)
    for command in ("dlq groups", "dlq list", "dlq list --json --limit 1000"):
        took_s, cpu_s, peak_mib, _ = run(kafka, "-m", "redrive", *command.split())
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
    yield {
        "figure": "letters",
        "what": "memory of a redrive's index, bytes a letter of the partition at work",
        "value": round(index_bytes_a_letter(kafka)),
    }
    yield redriven(kafka, letters)


def main(letters: int) -> None:
    with LocalBroker() as broker:
        topics = create_topics(broker.bootstrap_servers, partitions=PARTITIONS)
        kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            dlq_topic=topics.dlq,
            events_topic=topics.events,
            results_topic=topics.results,
            retry_topic=topics.retry,
            group_id=topics.group,
        )
        size = store(kafka, letters)
        machine = {"machine": platform.machine(), "cores": os.cpu_count()}
        print(json.dumps({**machine, "letters": letters, "bytes_a_letter": size // letters}))
        for figure in figures(kafka, letters):
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--letters", type=int, default=100_000)
    main(arguments.parse_args().letters)
