"""What must hold of the parts that `redrive.wiring` puts together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from structlog.testing import capture_logs

from redrive import wiring
from redrive.consumer.consumer import Parts
from redrive.consumer.options import Delivery, WorkerSettings
from redrive.graphs import Checkpoints, CheckpointSettings, GraphRegistry, WorkflowProcessor
from redrive.kafka.options import KafkaSettings
from redrive.kafka.topics import TopicReport
from redrive.settings import Settings
from redrive.testing.clock import TurnedClock


class Asked(Exception):  # noqa: N818 - it ends the making of a client, and is no error
    """Carries the options that a client was asked for with."""


def transactional_ids(
    monkeypatch: pytest.MonkeyPatch, worker: WorkerSettings, *, producers: int
) -> list[object]:
    def asked(options: Mapping[str, object]) -> None:
        raise Asked(options.get("transactional.id"))

    monkeypatch.setattr(wiring, "make_producer", asked)
    parts = build(Settings(kafka=KafkaSettings(), worker=worker))
    return [asked_for(parts) for _ in range(producers)]


def build(settings: Settings) -> Parts:
    checkpoints = Checkpoints(CheckpointSettings(url="none"))
    topics = dict.fromkeys((settings.kafka.results_topic, settings.kafka.dlq_topic), 10**6)
    report = TopicReport(findings=(), partitions={}, max_bytes=topics)
    processor: Any = WorkflowProcessor({}, checkpoints)
    downstream: Any = None
    return wiring._build(  # noqa: SLF001 - the seam below the loop's side
        settings,
        processor,
        checkpoints,
        report,
        "w",
        TurnedClock(),
        downstream,
        lambda _: None,
    )


def asked_for(parts: Parts) -> object:
    with pytest.raises(Asked) as asked:
        parts.settling._hands._make_producer()  # noqa: SLF001 - as each doubt would
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


def test_at_least_once_needs_no_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerSettings(delivery=Delivery.AT_LEAST_ONCE)

    assert transactional_ids(monkeypatch, worker, producers=1) == [None]


def test_retries_that_multiply_are_told_once_each() -> None:
    def node(state: dict[str, object]) -> dict[str, object]:
        return state

    graph: Any = StateGraph(dict)
    graph.add_node("write", node, retry_policy=RetryPolicy()).add_edge(START, "write")
    registry = GraphRegistry({"report": graph})

    with capture_logs() as logs:
        wiring._warn_of_stacked_retries(registry, Settings())  # noqa: SLF001 - a part of `start`

    (told,) = logs
    assert (told["event"], told["log_level"]) == ("graph.retries_multiply", "warning")
    assert (told["graph"], told["node"], told["calls"]) == ("report", "write", 12)
    assert "redrive.graphs.retry_policy" in told["advice"]
