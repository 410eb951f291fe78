"""A stage with the graph of fates on it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.kafka.guarded import USERS

from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import Kafka, MakeTopics, Topics
from redrive.testing.kafka_env import KafkaEnv

AGENTS = Path(__file__).parent / "agents"

MakeStage = Callable[..., KafkaEnv]


@pytest.fixture(scope="session")
def guarded(broker_tools: None) -> Iterator[LocalBroker]:
    """Return a broker that asks users for passwords, and lets them do what they are granted."""
    del broker_tools
    with LocalBroker(users=USERS) as broker:
        yield broker


@pytest.fixture
def command_line(
    own_logging: None,  # noqa: ARG001 - for what it undoes
    kafka: Kafka,
    topics: Topics,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Let commands work in a folder of their own, with this broker and these topics."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("REDRIVE_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    for key in ("events", "results", "retry", "dlq"):
        monkeypatch.setenv(f"REDRIVE_KAFKA__{key.upper()}_TOPIC", getattr(topics, key))
    monkeypatch.setenv("REDRIVE_KAFKA__GROUP_ID", topics.group)


@pytest.fixture
def command_at(
    own_logging: None,  # noqa: ARG001 - for what it undoes
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[KafkaEnv], None]:
    """Let commands in this process work on a stage, and in its folder."""

    def go(env: KafkaEnv) -> None:
        monkeypatch.chdir(env.folder)
        monkeypatch.setenv("COLUMNS", "200")
        for name, value in env.environ().items():
            monkeypatch.setenv(name, value)

    return go


@pytest.fixture
def make_stage(kafka: Kafka, make_topics: MakeTopics, tmp_path: Path) -> MakeStage:
    shutil.copy(AGENTS / "fates.py", tmp_path)

    def make(*, partitions: int = 4, **settings: str) -> KafkaEnv:
        return KafkaEnv(
            kafka.bootstrap_servers,
            make_topics(partitions=partitions),
            tmp_path,
            {"EXECUTIONS": str(tmp_path / "executions.log"), **settings},
        )

    return make
