"""The broker is stopped, killed, frozen while events run: the worker goes on by itself."""

import shutil
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from redrive.clock import SYSTEM
from redrive.testing.broker import LocalBroker
from redrive.testing.broker_config import FREEZABLE
from redrive.testing.created_topics import create_topics
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import wait_until

EVENTS = 600
ATTEMPTS = 3
SESSION_S = 6
NAMED = ["--worker-id", "w1"]
AGENTS = Path(__file__).parent / "agents"


@pytest.mark.timeout(900)
@pytest.mark.invariant("P1", "P2", "P3", "P7")
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        pytest.param("stopped", NAMED, id="stopped", marks=pytest.mark.nightly),
        pytest.param("killed", NAMED, id="killed"),
        pytest.param("killed", [], id="killed-without-a-name", marks=pytest.mark.nightly),
        pytest.param("frozen", NAMED, id="frozen", marks=pytest.mark.nightly),
    ],
)
def test_a_worker_outlives_a_broker_that_is(
    fault: str, name: list[str], broker_tools: None, tmp_path: Path
) -> None:
    del broker_tools  # they are there
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with LocalBroker(FREEZABLE if fault == "frozen" else None) as broker:
            try:
                _outlive(fault, name, broker, folder)
            except (AssertionError, TimeoutError, KafkaException):
                # Then the broker itself has lost what it was to decide: once more, on another.
                if attempt + 1 < ATTEMPTS and broker.dropped_markers:
                    continue
                raise
        return


def _outlive(fault: str, name: list[str], own_broker: LocalBroker, tmp_path: Path) -> None:
    shutil.copy(AGENTS / "fates.py", tmp_path)
    servers = own_broker.bootstrap_servers
    settings = {
        "EXECUTIONS": str(tmp_path / "executions.log"),
        "REDRIVE_CHECKPOINTS__URL": "none",
        "REDRIVE_WORKER__IN_FLIGHT": "16",
        "REDRIVE_KAFKA__SESSION_TIMEOUT": f"{SESSION_S}s",
    }
    env = KafkaEnv(servers, create_topics(servers, partitions=4), tmp_path, settings)
    env.send(event({"fate": "sleep", "seconds": 0.05}) for _ in range(EVENTS))

    with env.worker(*name, "--graph", "*=fates:builder").running() as worker:
        for share in (1, 2):
            _wait_for_runs(tmp_path / "executions.log", share * EVENTS // 3)
            _take_away_and_give_back(own_broker, fault)
        env.wait_settled(timeout_s=120)
        assert worker.stop() == 0

    verdict = judge(gather(servers, env.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == EVENTS


def _take_away_and_give_back(broker: LocalBroker, fault: str) -> None:
    if fault == "frozen":
        broker.pause()
        SYSTEM.block(SESSION_S * 1.5)  # the fault itself: for longer than the session lasts
        broker.resume()
        return
    if fault == "stopped":
        broker.stop()
    else:
        broker.kill()
    broker.start()


def _wait_for_runs(executions: Path, count: int) -> None:
    def reached() -> bool:
        return executions.exists() and executions.read_text().count(" write") >= count

    wait_until(reached, timeout_s=90, what=f"{count} runs")
