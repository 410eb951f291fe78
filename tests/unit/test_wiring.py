"""What must hold of the parts that `redrive.wiring` puts together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from structlog.testing import capture_logs

from redrive.consumer.policy import Policy
from redrive.consumer.shares import Shares
from redrive.consumer.worker_lifecycle import WorkerCallbacks, WorkerComponents
from redrive.consumer.worker_settings import DeliveryGuarantee, WorkerSettings
from redrive.dead_letter.letter_settings import LetterSettings
from redrive.errors import SettingsError
from redrive.graphs import Checkpoints, CheckpointSettings, GraphRegistry, WorkflowProcessor
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_admin import TopicReport
from redrive.notify.notify_settings import NotifySettings
from redrive.retry import Kind
from redrive.settings import Settings
from redrive.testing.manual_clock import ManualClock
from redrive.wiring import LangGraphKafkaConsumer
from redrive.wiring import kafka_consumer as wiring_consumer
from redrive.wiring import parts as wiring_parts
from redrive.wiring.graphs import policies, warn_of_stacked_retries


async def test_a_worker_does_not_start_where_nothing_can_be_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = TopicReport(findings=(), partitions={}, max_bytes={}, note_limit=102)
    monkeypatch.setattr(wiring_consumer, "verify_topics", lambda *_, **__: report)
    graph: Any = StateGraph(dict)
    graph.add_node("work", lambda _: {}).add_edge(START, "work")

    with pytest.raises(SettingsError, match=r"offset\.metadata\.max\.bytes .* is 102, must be 103"):
        await LangGraphKafkaConsumer(Settings(), {"*": graph}).start()


class Asked(Exception):  # noqa: N818 - it ends the making of a client, and is no error
    """Carries the options that a client was asked for with."""


def transactional_ids(
    monkeypatch: pytest.MonkeyPatch,
    worker: WorkerSettings,
    *,
    producers: int,
    membership: str | None = None,
) -> list[object]:
    def asked(options: Mapping[str, object]) -> None:
        raise Asked(options.get("transactional.id"))

    monkeypatch.setattr(wiring_parts, "make_producer", asked)
    parts = build(Settings(kafka=KafkaSettings(), worker=worker), membership=membership)
    return [asked_for(parts) for _ in range(producers)]


def build(settings: Settings, *, membership: str | None = None) -> WorkerComponents:
    checkpoints = Checkpoints(CheckpointSettings(url="none"))
    topics = dict.fromkeys((settings.kafka.results_topic, settings.kafka.dlq_topic), 10**6)
    report = TopicReport(findings=(), partitions={}, max_bytes=topics)
    processor: Any = WorkflowProcessor({}, checkpoints)
    downstream: Any = None
    return wiring_parts.build_parts(
        settings,
        processor,
        checkpoints,
        WorkerCallbacks(downstream, *[lambda _: None] * 4),
        report=report,
        policy=lambda _: Policy(),
        shares=Shares(64),
        name="w",
        membership=membership,
        clock=ManualClock(),
    )


def asked_for(parts: WorkerComponents) -> object:
    with pytest.raises(Asked) as asked:
        parts.settling._producer_thread._make_producer(10.0)  # noqa: SLF001 - as each doubt would
    return asked.value.args[0]


@pytest.mark.invariant("P2")
def test_all_producers_of_a_worker_share_one_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else a new one would not end what the one in doubt left open.
    named = transactional_ids(monkeypatch, WorkerSettings(id="w1"), producers=2)
    unnamed = transactional_ids(monkeypatch, WorkerSettings(), producers=2)
    other = transactional_ids(monkeypatch, WorkerSettings(), producers=1)

    assert named == ["redrive.redrive.w1"] * 2
    assert unnamed[0] == unnamed[1]
    assert unnamed[0] != other[0]


@pytest.mark.invariant("P2")
def test_a_worker_without_a_name_ends_what_the_one_before_it_in_its_place_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lives = [
        transactional_ids(monkeypatch, WorkerSettings(), producers=1, membership="af09-1")
        for _ in range(2)
    ]
    named = transactional_ids(
        monkeypatch, WorkerSettings(id="w-1"), producers=1, membership="af09-1"
    )

    assert lives == [["redrive.redrive.af09-1"]] * 2
    assert named == ["redrive.redrive.w-1"]


def test_at_least_once_needs_no_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerSettings(delivery=DeliveryGuarantee.AT_LEAST_ONCE)

    assert transactional_ids(monkeypatch, worker, producers=1) == [None]


def test_a_spool_that_could_not_be_written_is_told_before_it_is_needed(tmp_path: Path) -> None:
    nowhere = LetterSettings(spool=str(tmp_path / "nowhere" / "letters.jsonl"))
    there = LetterSettings(spool=str(tmp_path / "letters.jsonl"))
    unwanted = LetterSettings(spool="none")

    with capture_logs() as logs:
        for letters in (nowhere, there, unwanted):
            build(Settings(letters=letters))

    assert [(log["event"], log["log_level"]) for log in logs] == [("letters.no_spool", "warning")]
    assert "there is no folder" in logs[0]["problem"]
    # No file is made before there is a letter for it.
    assert list(tmp_path.iterdir()) == []


def test_retries_that_multiply_are_told_once_each() -> None:
    def node(state: dict[str, object]) -> dict[str, object]:
        return state

    graph: Any = StateGraph(dict)
    graph.add_node("write", node, retry_policy=RetryPolicy()).add_edge(START, "write")
    registry = GraphRegistry({"report": graph})

    with capture_logs() as logs:
        warn_of_stacked_retries(registry, Settings())

    (told,) = logs
    assert (told["event"], told["log_level"]) == ("graph.retries_multiply", "warning")
    assert (told["graph"], told["node"], told["calls"]) == ("report", "write", 12)
    assert "redrive.graphs.retry_policy" in told["advice"]


def test_a_workflow_has_the_policy_of_the_graph_that_serves_it() -> None:
    settings = Settings.model_validate(
        {
            "retry": {"max_retries": 5, "kinds": {"timeout": 0}},
            "timeouts": {"run": 600, "idle": 60},
            "graphs": {
                "report-*": {
                    "target": "tests.does:not_matter",
                    "retry": {"max_retries": 1, "initial_delay": 2},
                    "timeout": 30,
                    "attempt_timeout": 10,
                }
            },
        }
    )
    graph: Any = StateGraph(dict)
    graph.add_node("write", lambda state: state)
    graph.add_edge(START, "write")
    compiled = graph.compile()
    loaded = GraphRegistry({"report-*": compiled, "other": compiled})

    policy = policies(loaded, settings)

    report, other, unknown = policy("report-7"), policy("other"), policy("nobody's")
    assert (report.retry.max_retries, report.retry.initial_delay) == (1, 2.0)
    assert (report.run_s, report.attempt_s, report.idle_s) == (30.0, 10.0, 60.0)
    assert (other.retry.max_retries, other.run_s, other.attempt_s) == (5, 600.0, None)
    assert other.retry.retries_for(Kind.TIMEOUT) == 0
    assert unknown == other


@pytest.mark.parametrize(
    ("notify", "problem"),
    [
        (
            {"urls": {"team": "nosuchservice://hunter2"}},
            "notify.urls.team: Apprise does not know this",
        ),
        ({"hook": "nosuchmodule:tell"}, "notify.hook: there is no module 'nosuchmodule'"),
    ],
)
async def test_who_cannot_be_told_is_said_before_anything_starts(
    notify: dict[str, object], problem: str
) -> None:
    graph: Any = StateGraph(dict)
    graph.add_node("n", lambda _: {})
    graph.add_edge(START, "n")
    settings = Settings(notify=NotifySettings.model_validate(notify))

    with pytest.raises(SettingsError, match=problem) as caught:
        await LangGraphKafkaConsumer(settings, {"*": graph}).start()

    assert "hunter2" not in str(caught.value)
