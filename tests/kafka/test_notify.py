"""Real workers, real letters: people are told in time, once, and the work never waits for them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import TypedDict

import pytest
from langgraph.graph import START, StateGraph
from structlog.testing import capture_logs
from tests.unit.test_notify_channels import mail_server

from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowEvent
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.notify import LetterNotice
from redrive.notify.notify_settings import NotifySettings
from redrive.retry.kinds import Kind, Reason
from redrive.settings import Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.webhook import Webhook
from redrive.testing.worker_process import WorkerProcess, wait_until
from redrive.wiring import LangGraphKafkaConsumer

IN_TIME_S = 5.0
SECRET = "sk-" + "Zq7Kd0XvB3" + "mT9sWyE5uH" + "cRn8LfGj2PaQi4Xo"
PAYLOAD = "what nobody is to read"
LEAVING_S = 10.0
HOOK = """
from pathlib import Path

def write_down(notice):
    with Path("heard.txt").open("a") as file:
        file.write(f"{notice.workflow_id} {notice.error_type}\\n")
"""
GRAPH = ("--worker-id", "w1", "--graph", "*=fates:builder")


class State(TypedDict, total=False):
    fails: bool
    secret: str


async def write(state: State) -> State:
    if state.get("fails"):
        raise ValueError(f"the key {state['secret']} was refused")
    return {}


BUILDER = StateGraph(State)
BUILDER.add_node("write", write)
BUILDER.add_edge(START, "write")


def settings_of(env: KafkaEnv, **notify: object) -> Settings:
    return Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url="none"),
        notify=NotifySettings.model_validate(notify),
    )


def failing() -> WorkflowEvent:
    return event({"fails": True, "secret": SECRET, "input": PAYLOAD}, workflow_id="reports")


@pytest.mark.invariant("P15")
async def test_a_letter_is_told_by_webhook_mail_and_hook_in_time_once_and_without_secrets(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1)
    heard: list[LetterNotice] = []
    with Webhook() as webhook, mail_server() as (box, mail_url):
        settings = settings_of(env, urls={"hook": webhook.url, "mail": mail_url})
        async with LangGraphKafkaConsumer(settings, {"*": BUILDER}, on_dead_letter=heard.append):
            # The group is joined first: that takes seconds, and is another matter.
            env.send([event({})])
            await asyncio.to_thread(env.wait_settled, timeout_s=30)
            env.send([sent := failing()])
            await told(lambda: webhook.received and box.mails and heard)

    (message,), (mail,), (notice,) = webhook.received, box.mails, heard
    (record,) = read_topic(env.bootstrap_servers, env.topics.dlq)
    assert notice.dlq_id == DeadLetter.model_validate_json(record.value or b"").dlq_id
    assert (notice.event_id, notice.workflow_id, notice.node) == (sent.event_id, "reports", "write")
    assert (notice.kind, notice.reason) == (Kind.PERMANENT, Reason.PERMANENT)
    assert message["title"] == "redrive: reports, node write fails: ValueError (new)"
    assert mail["Subject"] == message["title"]
    assert f"redrive dlq show {notice.dlq_id}" in str(message["message"])
    assert f"--fingerprint {notice.fingerprint}" in str(message["message"])
    for text in (str(message), mail.as_string(), repr(notice)):
        assert SECRET not in text
        assert PAYLOAD not in text


@pytest.mark.invariant("P14")
async def test_equal_failures_are_few_messages_whose_counts_add_up(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage()
    failures = 150
    env.send(failing() for _ in range(failures))
    with Webhook() as webhook:
        settings = settings_of(env, urls={"hook": webhook.url}, window=1, many_letters=0)
        began = time.monotonic()
        async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
            await asyncio.to_thread(env.wait_settled, timeout_s=60)
        windows = time.monotonic() - began

    assert counted(webhook) == failures
    assert len(webhook.received) <= windows + 2


@pytest.mark.invariant("P7", "P12")
async def test_a_channel_that_hangs_delays_no_event_and_no_stop(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage()
    failures, others = 50, 200
    hanging = threading.Event()
    with Webhook() as webhook, Webhook() as other, capture_logs() as logs:
        webhook.go_on.clear()
        settings = settings_of(env, urls={"hangs": webhook.url, "other": other.url})
        worker = LangGraphKafkaConsumer(
            settings, {"*": BUILDER}, on_dead_letter=lambda _: hanging.wait()
        )
        async with worker:
            env.send([*(failing() for _ in range(failures)), *(event({}) for _ in range(others))])
            await asyncio.to_thread(env.wait_settled, timeout_s=30)
            await told(lambda: other.received)
            assert webhook.received == []
            began = time.monotonic()
        took_s = time.monotonic() - began
        hanging.set()

    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []
    # Draining and leaving the group included; what was not told is said.
    assert took_s < LEAVING_S
    (left,) = [log for log in logs if log["event"] == "notify.left_untold"]
    assert left["letters"] == failures
    (missed,) = [log for log in logs if log["event"] == "notify.hook_missed"]
    assert missed["waiting"] == failures


def test_a_worker_process_tells_by_what_its_environment_names_and_logs_no_url(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    with Webhook() as webhook:
        webhook.status = 500
        url = webhook.url.replace("://", f"://me:{SECRET}@")
        env = make_stage(
            REDRIVE_CHECKPOINTS__URL="none",
            REDRIVE_NOTIFY__URLS__TEAM=url,
            REDRIVE_NOTIFY__HOOK="heard:write_down",
        )
        (env.folder / "heard.py").write_text(HOOK, encoding="utf-8")
        env.send([event({"fate": "permanent"})])
        with env.worker(*GRAPH).running() as worker:
            failing_ = worker.wait_for("notify.channel_failing")
            webhook.status = 200
            env.wait_settled(timeout_s=60)
            wait_until(lambda: webhook.received, timeout_s=IN_TIME_S, what="the retry")
            assert worker.stop() == 0
            log = worker.log_file.read_text(encoding="utf-8")

    assert "error=500" in str(failing_["error"])
    assert len(webhook.received) == 1
    assert (env.folder / "heard.txt").read_text(encoding="utf-8") == "fates ValueError\n"
    assert SECRET not in log


def test_a_parent_tells_of_a_worker_that_dies_again_and_again(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    with Webhook() as webhook:
        env = make_stage(
            REDRIVE_CHECKPOINTS__URL="none",
            REDRIVE_NOTIFY__URLS__TEAM=webhook.url,
            REDRIVE_NOTIFY__CRASHES="2",
        )
        with env.worker(*GRAPH, supervised=True).running() as parent:
            for deaths in (1, 2):
                wait_until(
                    lambda d=deaths: started(parent) == d,  # type: ignore[misc]  # bound as it is now
                    timeout_s=60,
                    what="the child",
                )
                os.kill(parent.child_pid, signal.SIGKILL)
            wait_until(lambda: webhook.received, timeout_s=2 * IN_TIME_S, what="the alarm")

    (message,) = webhook.received
    assert message["title"] == "redrive: a worker keeps dying"
    assert "2 deaths in a row; the last one: killed by SIGKILL" in str(message["message"])


async def told(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition, timeout_s=IN_TIME_S, what="it is told")


def started(parent: WorkerProcess) -> int:
    return len(list(parent.events("supervisor.child_started")))


def counted(webhook: Webhook) -> int:
    """Add up the failures of which the messages tell."""
    runs = (re.search(r", (\d+) runs", str(message["title"])) for message in webhook.received)
    return sum(int(found[1]) if found else 1 for found in runs)
