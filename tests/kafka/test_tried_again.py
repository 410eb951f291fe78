"""A task that is tried again sends the same event: each try hears its own answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from redrive.events import EventHeaders, WorkflowResultEvent
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.expected import Expected
from redrive.kafka.publish import publish_event
from redrive.kafka.results import ResultReader
from redrive.retry.kinds import Reason
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

PATIENCE = timedelta(seconds=60)


@pytest.mark.invariant("P2", "P8")
def test_a_try_whose_deadline_is_over_does_not_answer_the_next_one(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL="none")
    kafka = env.kafka_settings()
    asked, offsets = event({"fate": "success"}), end_offsets(kafka)
    tries = [
        publish_event(kafka, asked, headers=EventHeaders(deadline=round(time.time() + left) * 1000))
        for left in (-1, 600)
    ]

    heard: list[WorkflowResultEvent] = []
    with (
        env.worker("--graph", "*=fates:builder").running() as worker,
        closing(ResultReader(kafka)) as reader,
    ):
        for one in tries:
            until = datetime.now(UTC) + PATIENCE
            heard.append(
                reader.wait_in_thread(Expected(asked.event_id, record=one), offsets, until)
            )
        assert worker.stop() == 0

    expired, done = heard
    assert expired.error_info is not None
    assert expired.error_info.reason is Reason.EXPIRED
    assert done.status == "success"
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []
