"""One worker and one Prometheus that share a night of faults; tests bring them about.

Rules are those of deploy/prometheus/alerts.yml, quicker: see `quicker`. Nothing else is changed.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient
from tests.deploy.prometheus_server import PrometheusServer
from tests.kafka.seen_from_outside import Outside, Said

from redrive.kafka.topic_admin import create_topics
from redrive.telemetry.server import Answer, PageServer
from redrive.testing.broker import LocalBroker
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

MINUTE_S = 4
# Limits that a quick test cannot reach. The memory and the runs given up keep theirs.
LIMITS = {
    "stuck_seconds": 3,
    "still_seconds": 2,
    "starts": 1,
    "aborts": 0,
    "window_ratio": 0.01,
    "letters_open": 10,
}


def quicker(rules: str) -> str:
    """Let alerts wait a second, a minute of a range be four seconds, and some limits be lower."""
    rules = re.sub(r"\bfor: \d+m", "for: 1s", rules)
    rules = re.sub(r"(?<=\[|\s|:)(\d+)m\b", lambda found: f"{int(found[1]) * MINUTE_S}s", rules)
    for name, limit in LIMITS.items():
        one = rf"(record: redrive:limit:{name}\n\s+expr: )vector\(.*\)"
        rules, changed = re.subn(one, rf"\1vector({limit})", rules)
        assert changed == 1, name
    return rules


@dataclass
class Letters:
    """Shows what `redrive dlq stats --prometheus` said last, as a node exporter would."""

    env: KafkaEnv
    said: bytes = b""

    def read(self, **settings: str) -> None:
        """Count the letters anew."""
        self.said = command(self.env, "dlq", "figures", "--prometheus", **settings)

    def serve(self, port: int) -> PageServer:
        """Serve them at /metrics."""
        return PageServer("127.0.0.1", port, {"/metrics": lambda _: Answer(self.said)})


@dataclass
class Night:
    """What a test of one fault needs."""

    broker: LocalBroker
    env: KafkaEnv
    worker: WorkerProcess
    outside: Outside
    letters: Letters
    prometheus: PrometheusServer

    def send(self, fate: str, *, count: int = 1, partition: int | None = None, **data: str) -> None:
        """Send events of one fate."""
        events = (event({"fate": fate, **data}) for _ in range(count))
        self.env.send(events, partition=partition)

    def wait_until_ready(self) -> None:
        """Return once the worker says that it is ready."""
        ready = Said(200, "working")
        wait_until(
            lambda: self.outside.probe("/readyz") == ready, timeout_s=60, what="the worker is ready"
        )

    def redrive_all(self) -> None:
        """Drive all open letters again, from the beginning."""
        command(self.env, "dlq", "redrive", "--all", "--restart", "--yes", "--no-wait")

    @contextmanager
    def gate(self) -> Iterator[str]:
        """Let events of the fate `gate` wait here; afterwards they end, and are settled."""
        gate = self.env.folder / f"gate-{len(list(self.env.folder.glob('gate-*')))}"
        try:
            yield gate.name
        finally:
            gate.touch()
        self.env.wait_settled(timeout_s=60)

    @contextmanager
    def topic_gone(self, topic: str) -> Iterator[None]:
        """Delete a topic; afterwards make it anew."""
        admin = AdminClient({"bootstrap.servers": self.env.bootstrap_servers})
        admin.delete_topics([topic])[topic].result(timeout=30)
        wait_until(
            lambda: topic not in admin.list_topics(timeout=10).topics,
            timeout_s=60,
            what=f"{topic} is gone",
        )
        try:
            yield
        finally:
            create_topics(self.env.kafka_settings(), partitions=2)


def command(env: KafkaEnv, *arguments: str, **settings: str) -> bytes:
    """Run a command of ours, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "redrive", *arguments],
        cwd=env.folder,
        env={**os.environ, **env.environ(), **settings},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout


def folder_with_agents(folder: Path) -> Path:
    """Put the graph where a worker finds it."""
    source = Path(__file__).with_name("agents.py")
    (folder / "agents.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    return folder
