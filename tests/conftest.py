"""What every test may ask for: a real broker, and topics of one's own on it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from redrive.testing.broker import LocalBroker
from redrive.testing.kafka_jars import missing_tool
from redrive.testing.topics import (
    Kafka,
    MakeTopics,
    NamedBroker,
    Topics,
    create_topics,
    delete_topics,
)

# A busy machine is slow: no test is timed.
settings.register_profile("redrive", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("redrive")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares an Airflow, or a file's fixtures, in one process when several run tests."""
    for item in items:
        folder = item.path.parent
        shared = folder if folder.name == "airflow" else item.path
        item.add_marker(pytest.mark.xdist_group(str(shared)))


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Undo what a command of ours does to the logging of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.getLogger("redrive").setLevel(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def broker_tools() -> None:
    """What a test that starts a `LocalBroker` of its own asks for."""
    missing = missing_tool()
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield NamedBroker(named)
        return
    request.getfixturevalue("broker_tools")
    with LocalBroker() as broker:
        yield broker


@pytest.fixture
def make_topics(kafka: Kafka) -> Iterator[MakeTopics]:
    made: list[str] = []

    def make(*, partitions: int = 4) -> Topics:
        topics = create_topics(kafka.bootstrap_servers, partitions=partitions)
        made.extend(topics.names)
        return topics

    yield make
    if made:
        delete_topics(kafka.bootstrap_servers, made)


@pytest.fixture
def topics(make_topics: MakeTopics) -> Topics:
    return make_topics()
