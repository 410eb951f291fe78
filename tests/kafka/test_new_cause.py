"""A new failure among known ones is named: by `dlq groups --since`, in a message, in a figure."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.kafka.dlq_commands import letters, run
from tests.kafka.seen_from_outside import Outside, free_port

from redrive.clock import SYSTEM
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.webhook import Webhook
from redrive.testing.worker_process import wait_until

GRAPH = ("--worker-id", "w1", "--graph", "*=fates:builder")
KNOWN, NEW = "ValueError", "ConnectionError"
TOLD_S = 10.0


@pytest.mark.invariant("P14")
def test_a_new_failure_among_known_ones_is_named_within_its_window(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    outside = Outside(free_port())
    with Webhook() as webhook:
        env = make_stage(
            REDRIVE_CHECKPOINTS__URL="none",
            REDRIVE_RETRY__MAX_RETRIES="0",
            REDRIVE_NOTIFY__URLS__TEAM=webhook.url,
        )
        with env.worker(*GRAPH, environ=outside.environ).running():
            env.send(event({"fate": fate}) for fate in ["permanent", "success"] * 20)
            env.wait_settled(timeout_s=60)
            wait_until(lambda: webhook.received, timeout_s=TOLD_S, what="the known cause")
            before = outside.metrics("redrive_new_causes_total", "workflow")
            since = SYSTEM.now()
            env.send(event({"fate": fate}) for fate in ["permanent", "fail", "success"] * 12)
            env.wait_settled(timeout_s=60)
            wait_until(lambda: len(webhook.received) > 1, timeout_s=TOLD_S, what="the new cause")
            after = outside.metrics("redrive_new_causes_total", "workflow")
            code, text, summed_up = run(env, "groups", "--since", since.isoformat())
            _, as_json, _ = run(env, "groups", "--since", since.isoformat(), "--json")

    first = next(letter for letter in letters(env) if letter.error.type == NEW)
    version = first.graph.version if first.graph else ""
    assert (code, version != "") == (0, True)
    (named,) = [line.strip() for line in text.splitlines() if line.startswith("    new since ")]
    assert named == (
        f"new since {first.timestamp:%H:%M} UTC, 12 runs, node work, first seen with graph version "
        f"{version}"
    )
    assert "2 cause(s), 24 letter(s): 1 new" in summed_up

    told = json.loads(as_json)
    causes = {one["error_type"]: one for one in told["groups"]}
    assert told["window"]["since"] == since.isoformat()
    assert (causes[NEW]["trend"], causes[NEW]["recent"], causes[NEW]["before"]) == ("new", 12, 0)
    assert causes[NEW]["first_version"] == version
    assert causes[KNOWN]["trend"] != "new"
    assert (causes[KNOWN]["count"], causes[KNOWN]["recent"]) == (12, 12)
    assert causes[KNOWN]["first_seen"] < since.isoformat() < causes[NEW]["first_seen"]

    (message,) = [one for one in webhook.received if NEW in str(one["title"])]
    assert "(new)" in str(message["title"])
    assert "New since " in str(message["message"])
    assert f"first seen with graph version {version}" in str(message["message"])
    assert (before, after) == ({("fates",): 1}, {("fates",): 2})
