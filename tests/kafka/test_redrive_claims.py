"""Asking the letters on a real broker which events drive them: they may not be there yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from redrive.clock import SYSTEM
from redrive.consumer.letters_reader import LettersReader
from redrive.dead_letter.driven import ClaimedRedrive
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.events import EventPlace
from redrive.kafka.client import admin_config
from redrive.kafka.connect import make_admin
from redrive.kafka.log import TopicPartition
from redrive.kafka.partition_log import log_consumer
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.worker_process import wait_until

TRUE, FALSE, LATER = 3, 4, 5


@pytest.mark.invariant("P1", "P13")
def test_an_event_that_claims_to_be_a_redrive_waits_until_the_letters_can_be_read(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1)
    kafka, events = env.kafka_settings(), TopicPartition(env.topics.events, 0)
    tp = EventPlace(topic=events.topic, partition=0, offset=TRUE)
    claim = ClaimedRedrive("L", "e", 1, "resume", "digest", tp)
    judged, away = dict[int, bool](), [KafkaError(KafkaError._TRANSPORT)]

    def admin() -> AdminClient:
        if away:
            raise KafkaException(away[0])
        return make_admin(admin_config(kafka))

    reader = LettersReader(
        kafka,
        lambda: log_consumer(kafka),
        admin,
        judged=lambda found: judged.update({at: is_so for (_, at), is_so in found.items()}),
        clock=SYSTEM,
    )
    _drive(env)

    with capture_logs() as logs:
        reader.ask({(events, TRUE): claim, (events, FALSE): replace(claim, count=2)})
        try:
            wait_until(lambda: bool(logs), timeout_s=30, what="that it cannot be read")
            before = dict(judged)
            away.clear()
            wait_until(lambda: len(judged) == 2, timeout_s=30, what="what the letters say")
            wait_until(lambda: len(logs) > 1, timeout_s=30, what="that it can be read")
            # What it knows already, it reads on from.
            _drive(env, count=2)
            reader.ask({(events, LATER): replace(claim, count=2)})
            wait_until(lambda: LATER in judged, timeout_s=30, what="what was written since")
        finally:
            reader.close()
            reader.join()

    assert before == {}
    assert judged == {TRUE: True, FALSE: False, LATER: True}
    first, last = logs
    assert (first["event"], first["waiting"]) == ("redrives.not_judged", 2)
    assert last["event"] == "redrives.judged_again"


def _drive(env: KafkaEnv, *, count: int = 1) -> None:
    """Write that the letter was driven."""
    state = LetterState(
        dlq_id="L",
        event_id="e",
        state=State.REDRIVEN,
        timestamp=SYSTEM.now(),
        actor="anna",
        mode="resume",
        redrive_count=count,
        sent="digest",
    )
    producer = Producer({"bootstrap.servers": env.bootstrap_servers})
    producer.produce(env.topics.dlq, state.to_bytes(), partition=0, headers=[*STATE_HEADERS])
    assert producer.flush(20) == 0
