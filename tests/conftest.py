"""What every test may ask for: a real broker, and topics of one's own on it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings
from tests.scheduling import LongestFirst, order
from tests.shared_broker import shared_broker
from xdist.remote import Producer  # type: ignore[import-untyped]  # xdist has no types

from redrive.telemetry.repeats import REPEATS
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import (
    Kafka,
    MakeTopics,
    NamedBroker,
    Topics,
    create_topics,
    delete_topics,
)
from redrive.testing.kafka_jars import missing_tool

BY_DAY, AT_NIGHT = 50, 1000
"""How many examples each property is tried with, where it does not say so itself."""
# A busy machine is slow: no test is timed. In CI the examples are the same each day, so that a
# change is judged by itself; everywhere else, and at night, they are new ones.
settings.register_profile(
    "day",
    max_examples=BY_DAY,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.register_profile(
    "night", settings.get_profile("day"), max_examples=AT_NIGHT, derandomize=False
)
# `make nightly` loads the other one afterwards.
settings.load_profile("day")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst:
    """Deal tests to processes, where several run them."""
    return LongestFirst(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put long tests first, where several processes run them."""
    if hasattr(config, "workerinput"):
        order(items)


@pytest.fixture(autouse=True)
def _said_nothing_yet() -> None:
    """Let each test see what its clients log, whatever those of others have logged."""
    REPEATS.forget()


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
def kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kafka]:
    """Return the broker of this run: no test stops it."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield NamedBroker(named)
        return
    request.getfixturevalue("broker_tools")
    own = tmp_path_factory.getbasetemp()
    with shared_broker(own.parent if hasattr(request.config, "workerinput") else own) as broker:
        yield broker


@pytest.fixture(scope="module")
def _breakable(broker_tools: None) -> Iterator[list[LocalBroker]]:  # noqa: ARG001 - they are there
    brokers: list[LocalBroker] = []
    yield brokers
    for broker in brokers:
        broker.close()


@pytest.fixture
def breakable(_breakable: list[LocalBroker]) -> LocalBroker:
    """Return a broker that may be stopped, killed and started: nobody else uses it meanwhile."""
    if _breakable and _breakable[0].dropped_markers:
        _breakable.pop().close()
    if not _breakable:
        _breakable.append(LocalBroker())
    _breakable[0].start()
    return _breakable[0]


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
