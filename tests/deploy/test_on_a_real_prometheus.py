"""Each alert fires at its fault, and each panel of the dashboard gets an answer.

A real Prometheus scrapes a real worker on a real broker, each second; the alerts are quicker than
in deploy/prometheus/alerts.yml, as `tests.deploy.night` says.
"""

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.agents import builder
from tests.deploy.night import Letters, Night, folder_with_agents, quicker
from tests.deploy.prometheus_server import running_prometheus
from tests.deploy.prometheus_tools import PrometheusTools
from tests.kafka.seen_from_outside import Outside, free_port

from redrive.consumer.observing import AttemptEnd
from redrive.consumer.outcome import Account
from redrive.consumer.worker_settings import MetricsSettings
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.settings import Settings
from redrive.testing.broker import LocalBroker
from redrive.testing.broker_config import FREEZABLE
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until
from redrive.wiring import LangGraphKafkaConsumer

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = (DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
ALERTS = set(re.findall(r"- alert: (\w+)", RULES))
SETTINGS = {
    "REDRIVE_CHECKPOINTS__URL": "none",
    "REDRIVE_KAFKA__SESSION_TIMEOUT": "6s",
    "REDRIVE_LETTERS__SPOOL_AFTER": "1s",
    "REDRIVE_RETRY__INITIAL_DELAY": "3s",
    "REDRIVE_RETRY__JITTER": "false",
    "REDRIVE_WORKER__BUFFER": "1MiB",
}
EMBEDDED = free_port()

# The rules themselves are tested by promtool, in test_alert_rules.py.
pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def night(
    tools: PrometheusTools,
    broker_tools: None,  # noqa: ARG001 - checks the tools
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Night]:
    folder = folder_with_agents(tmp_path_factory.mktemp("night"))
    outside, letters_port = Outside(free_port()), free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(FREEZABLE))
        topics = create_topics(broker.bootstrap_servers, partitions=2)
        env = KafkaEnv(broker.bootstrap_servers, topics, folder, SETTINGS)
        letters = Letters(env)
        letters.read()
        stack.callback(letters.serve(letters_port).close)
        graphs = ("--graph", "*=agents:builder")
        worker = env.worker(*graphs, environ=outside.environ, supervised=True)
        stack.enter_context(worker.running())
        # What a start does to the event loop is told of for a while: it is not looked at.
        worker.wait_for("worker.ready", timeout_s=90)
        ports = {"redrive": outside.port, "letters": letters_port, "embedded": EMBEDDED}
        prometheus = stack.enter_context(
            running_prometheus(
                tools.prometheus,
                tmp_path_factory.mktemp("prometheus"),
                rules=quicker(RULES),
                targets={job: f"127.0.0.1:{port}" for job, port in ports.items()},
            )
        )
        yield Night(broker, env, worker, outside, letters, prometheus)


def expect(night: Night, *names: str) -> dict[str, dict[str, str]]:
    """Wait until these fire, look at what they say, and return their labels."""
    firing = night.prometheus.wait_for(*names)
    for name in names:
        said = firing[name].annotations
        assert said["summary"], name
        assert "<no value>" not in f"{said}", said
        assert "error" not in said["description"], said
    return {name: firing[name].labels for name in names}


def test_nothing_fires_while_all_is_well(night: Night) -> None:
    night.wait_until_ready()
    night.send("success", count=5)
    night.send("transient", gate="asked")
    night.env.wait_settled(timeout_s=60)
    night.prometheus.wait_until_over(*ALERTS)
    night.letters.read()

    for _ in range(5):
        before = night.prometheus.evaluated()
        evaluated = lambda: night.prometheus.evaluated() != before  # noqa: B023, E731
        wait_until(evaluated, timeout_s=60, what="the rules are evaluated")
        assert night.prometheus.firing() == {}


def test_a_graph_that_fails(night: Night) -> None:
    night.wait_until_ready()

    night.send("permanent", count=12)
    found = expect(night, "RedriveDeadLetters", "RedriveMostRunsGivenUp")
    night.letters.read(REDRIVE_LETTERS__RETENTION="1s")
    expect(night, "RedriveManyOpenLetters", "RedriveLettersNearRetention")

    letters = found["RedriveDeadLetters"]
    assert [letters[one] for one in ("workflow", "kind", "reason")] == [
        "fates",
        "permanent",
        "permanent",
    ]
    assert found["RedriveMostRunsGivenUp"]["severity"] == "critical"


def test_letters_that_nobody_counts(night: Night) -> None:
    said, night.letters.said = night.letters.said, b""
    expect(night, "RedriveLetterFiguresOld")
    night.letters.said = said
    night.prometheus.wait_until_over("RedriveLetterFiguresOld")


def test_a_node_that_never_ends_and_what_it_holds_up(night: Night) -> None:
    night.wait_until_ready()

    with night.gate() as gate:
        night.send("gate", gate=gate, partition=0)
        night.send("success", count=120, partition=0)
        found = expect(night, "RedriveEventStuck", "RedrivePartitionStandsStill")

    assert found["RedriveEventStuck"]["partition"] == "0"
    night.prometheus.wait_until_over("RedriveEventStuck", "RedrivePartitionStandsStill")


def test_more_than_a_worker_can_hold(night: Night) -> None:
    night.wait_until_ready()

    with night.gate() as gate:
        night.send("gate", gate=gate, ballast="x" * 300_000, count=4)
        expect(night, "RedriveBufferFull")


def test_a_node_that_blocks_the_event_loop(night: Night) -> None:
    night.wait_until_ready()

    night.send("block")

    labels = expect(night, "RedriveWorkerStandsStill")["RedriveWorkerStandsStill"]
    assert labels["thread"] == "loop"


def test_a_letters_topic_that_is_gone(night: Night) -> None:
    night.wait_until_ready()
    spool = night.env.folder / "redrive-letters.jsonl"

    with night.topic_gone(night.env.topics.dlq):
        night.send("permanent")
        expect(night, "RedriveLettersSpooled", "RedriveSettlesAborted")
    night.env.wait_settled(timeout_s=60)
    spool.unlink()

    night.prometheus.wait_until_over("RedriveLettersSpooled")


def test_a_broker_that_is_frozen_while_runs_end(night: Night) -> None:
    night.wait_until_ready()

    with night.gate() as gate:
        night.send("gate", gate=gate)
        running = lambda: night.outside.metric("redrive_attempts_in_flight") == 1  # noqa: E731
        wait_until(running, timeout_s=60, what="the run has begun")
        night.broker.pause()
        try:
            (night.env.folder / gate).touch()
            names = ("RedriveNoWorkerReady", "RedriveWorkerNotReady", "RedriveSettlingStopped")
            expect(night, *names)
        finally:
            night.broker.resume()

    night.prometheus.wait_until_over(*names)


def test_a_process_that_dies(night: Night) -> None:
    night.wait_until_ready()

    os.kill(night.worker.child_pid, signal.SIGKILL)

    expect(night, "RedriveWorkerDiesRepeatedly")


class Bell:
    """An observer that is broken."""

    def attempt_ended(self, attempt: AttemptEnd) -> None:
        raise RuntimeError(f"no bell for {attempt.workflow_id}")

    def settled(self, accounts: Sequence[Account]) -> None:
        raise RuntimeError(f"no bell for {len(accounts)}")


async def test_an_observer_that_fails(night: Night) -> None:
    servers = night.broker.bootstrap_servers
    env = KafkaEnv(servers, create_topics(servers, partitions=1), night.env.folder)
    settings = Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url="none"),
        metrics=MetricsSettings(port=EMBEDDED, host="127.0.0.1"),
    )

    async with LangGraphKafkaConsumer(settings, {"*": builder}, observers=[Bell()]):
        env.send([event({})])
        labels = await asyncio.to_thread(expect, night, "RedriveObserverFails")

    assert labels["RedriveObserverFails"]["observer"] == "Bell"


def test_the_dashboard_gets_an_answer_to_every_query(night: Night) -> None:
    night.wait_until_ready()
    night.send("permanent")
    expect(night, "RedriveDeadLetters")
    night.redrive_all()
    night.send("transient", gate="asked-again")
    with night.gate() as gate:
        night.send("gate", gate=gate)
        wait_until_seen(night, "max(redrive_stuck_seconds) > 1")
    wait_until_seen(night, "sum(redrive_redriven_runs_total) > 0")

    empty = [
        f"{panel['title']}: {target['expr']}"
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
        if panel["title"] not in MAY_BE_EMPTY
        and not has_data(night.prometheus.query_all(chosen(target["expr"])))
    ]

    assert empty == []


# The series of the one begins with the first failure, those of the other where there are keys.
MAY_BE_EMPTY = {"Observers that failed", "Signatures of events"}


def wait_until_seen(night: Night, expr: str) -> None:
    wait_until(lambda: night.prometheus.query(expr), timeout_s=60, what=expr, every_s=0.2)


def chosen(expr: str) -> str:
    """Put values in the place of the dashboard's variables."""
    for variable, value in VALUES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr
    return expr


VALUES = {"$job": "redrive", "$instance": ".*", "$workflow": ".*", "$window": "30s"}


def has_data(series: list[dict[str, Any]]) -> bool:
    return any(value != "NaN" for one in series for _, value in one["values"])
