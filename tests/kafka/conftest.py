"""A stage with the graph of fates on it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.testing.stage import Stage
from redrive.testing.topics import Kafka, MakeTopics

AGENTS = Path(__file__).parent / "agents"

MakeStage = Callable[..., Stage]


@pytest.fixture
def make_stage(kafka: Kafka, make_topics: MakeTopics, tmp_path: Path) -> MakeStage:
    shutil.copy(AGENTS / "fates.py", tmp_path)

    def make(*, partitions: int = 4, **settings: str) -> Stage:
        return Stage(
            kafka.bootstrap_servers,
            make_topics(partitions=partitions),
            tmp_path,
            {"EXECUTIONS": str(tmp_path / "executions.log"), **settings},
        )

    return make
