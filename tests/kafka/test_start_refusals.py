"""Bad settings end a worker at start: one clear line, no traceback, exit code 2."""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions

from redrive.testing.created_topics import Kafka, Topics, create_topics, delete_topics
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.worker_process import WorkerProcess

AGENTS = Path(__file__).parent / "agents"
GRAPH = ("--graph", "*=fates:builder")
END_WITHIN_S = 300.0


@dataclass(frozen=True)
class Case:
    """What a worker is started with, and the words that its one line must hold."""

    words: tuple[str, ...]
    arguments: tuple[str, ...] = GRAPH
    environ: dict[str, str] = field(default_factory=dict)
    spoil: Callable[[AdminClient, Topics], None] | None = None


def _without_letters(admin: AdminClient, topics: Topics) -> None:
    for future in admin.delete_topics([topics.dlq]).values():
        future.result(timeout=30)


def _with_more_events_partitions(admin: AdminClient, topics: Topics) -> None:
    for future in admin.create_partitions([NewPartitions(topics.events, 3)]).values():
        future.result(timeout=30)


def _with_small_letters(admin: AdminClient, topics: Topics) -> None:
    entry = ConfigEntry("max.message.bytes", "1000000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topics.dlq, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(timeout=30)


def _closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


Ended = dict[str, WorkerProcess]

CLOSED = _closed_port()

CASES = {
    "a graph's module is missing": Case(
        ("'research'", "there is no module 'nowhere'"), ("--graph", "research=nowhere:builder")
    ),
    "a graph's attribute is missing": Case(
        ("'research'", "fates:nothing does not exist"), ("--graph", "research=fates:nothing")
    ),
    "a graph's module raises": Case(
        ("'research'", "raises:builder raised", "RuntimeError: no key for the model"),
        ("--graph", "research=raises:builder"),
    ),
    "a graph's lifespan does not open": Case(
        ("'*', its lifespan: pooled:refuses raised", "ConnectionRefusedError: nobody at db:5432"),
        (),
        environ={
            "REDRIVE_GRAPHS": '{"*": {"target": "fates:builder", "lifespan": "pooled:refuses"}}'
        },
    ),
    "a graph's lifespan blocks for ever": Case(
        ("'*', its lifespan, pooled:blocks was not open within 1 s", "worker.open_timeout"),
        (),
        environ={
            "REDRIVE_GRAPHS": '{"*": {"target": "fates:builder", "lifespan": "pooled:blocks"}}',
            "REDRIVE_WORKER__OPEN_TIMEOUT": "1s",
        },
    ),
    "a graph has settings and no target": Case(
        ("graphs.research.target is missing", "langgraph.json"),
        (),
        environ={"REDRIVE_GRAPHS__RESEARCH__RECURSION_LIMIT": "7"},
    ),
    "no graph is registered": Case(("no graph is registered", "--graph"), ()),
    "no broker answers": Case(
        (f"no Kafka broker at {CLOSED} answered within 2s", "kafka.bootstrap_servers"),
        environ={
            "REDRIVE_KAFKA__BOOTSTRAP_SERVERS": CLOSED,
            "REDRIVE_KAFKA__STARTUP_TIMEOUT": "2s",
        },
    ),
    "a topic is missing": Case(
        ("topic 'dlq-", "missing", "redrive topics create"), spoil=_without_letters
    ),
    "the letters topic takes too little": Case(
        ("topic 'dlq-", "max.message.bytes is 1000000", "kafka-configs.sh"),
        spoil=_with_small_letters,
    ),
    "the checkpoints' folder is a file": Case(
        ("checkpoints.url: cannot write", "fates.py/checkpoints.db"),
        environ={"REDRIVE_CHECKPOINTS__URL": "sqlite:///fates.py/checkpoints.db"},
    ),
    "the file has an unknown key": Case(
        ("worker.in_flite", "unknown_key.toml", "in_flight"),
        (*GRAPH, "--config", "unknown_key.toml"),
    ),
    "the file has a bad duration": Case(
        ("worker.grace", "bad_duration.toml", "is not a duration"),
        (*GRAPH, "--config", "bad_duration.toml"),
    ),
}
TWO_LINES = {
    # The retry topic and the letters topic both have too few: a line each.
    "partition counts are unequal": Case(
        ("the number of partitions is 2, must be 3", "kafka-topics.sh"),
        spoil=_with_more_events_partitions,
    ),
}
ALL = {**CASES, **TWO_LINES}


@pytest.fixture(scope="module")
def ended(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """All workers, started together: most of their time is imports."""
    folder = tmp_path_factory.mktemp("refusals")
    for agents in ("fates.py", "pooled.py"):
        shutil.copy(AGENTS / agents, folder)
    (folder / "raises.py").write_text('raise RuntimeError("no key for the model")\n')
    (folder / "unknown_key.toml").write_text("[worker]\nin_flite = 3\n")
    (folder / "bad_duration.toml").write_text('[worker]\ngrace = "soon"\n')
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    whole = create_topics(kafka.bootstrap_servers, partitions=2)
    made = [whole]
    workers: Ended = {}
    with ExitStack() as started:
        for number, (name, case) in enumerate(ALL.items()):
            topics = whole
            if case.spoil is not None:
                made.append(topics := create_topics(kafka.bootstrap_servers, partitions=2))
                case.spoil(admin, topics)
            env = KafkaEnv(kafka.bootstrap_servers, topics, folder)
            worker = env.worker(*case.arguments, name=f"worker{number}", environ=case.environ)
            workers[name] = started.enter_context(worker.running())
        yield workers
    delete_topics(kafka.bootstrap_servers, (name for topics in made for name in topics.names))


@pytest.mark.parametrize("name", CASES)
def test_a_worker_refuses_to_start_when(name: str, ended: Ended) -> None:
    code = ended[name].wait(timeout_s=END_WITHIN_S)

    assert code == 2
    (line,) = _said(ended[name])
    assert line.startswith("redrive: ")
    assert [word for word in ALL[name].words if word not in line] == []


@pytest.mark.parametrize("name", TWO_LINES)
def test_a_worker_names_each_difference_in_a_line_of_its_own_when(name: str, ended: Ended) -> None:
    code = ended[name].wait(timeout_s=END_WITHIN_S)

    assert code == 2
    lines = _said(ended[name])
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("redrive: ")
        assert [word for word in ALL[name].words if word not in line] == []


def _said(worker: WorkerProcess) -> list[str]:
    """Return what it printed besides its log, which has one JSON object a line."""
    lines = worker.log_file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("{")]
