"""The worker charges its policy for retries of nodes: node and worker together keep to it."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from redrive.clock import Clock
from redrive.consumer.event_run import Run
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.outcome_builder import OutcomeBuilder
from redrive.consumer.policy import Policy
from redrive.consumer.runner import Again, Runner
from redrive.errors import TransientError
from redrive.events import EventHeaders, WorkflowEvent, WorkflowResultEvent
from redrive.graphs import Lease, WorkflowProcessor, retry_policy
from redrive.graphs.current import current
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.retry import Classifier, RetryConfig
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

RESULTS, LETTERS = "results", "letters"


class State(TypedDict):
    text: str


def answers_to(asked: WorkflowEvent, clock: Clock) -> tuple[OutcomeBuilder, Run]:
    """Return what answers an event, and its run."""
    limits = {RESULTS: 10**6, LETTERS: 10**6}
    outcomes = OutcomeBuilder(
        results_topic=RESULTS, dlq_topic=LETTERS, max_bytes=limits, worker="w", clock=clock
    )
    record = ConsumerRecord(TopicPartition("events", 2), 5, b"key", asked.to_bytes(), (), 1)
    run = Run(PolledRecord(record, epoch=1), asked, EventHeaders(), f"{asked.event_id}/2/0")
    return outcomes, run


async def worker(graph: Any, *, most: int) -> tuple[Outcome, Run]:  # noqa: ANN401 - LangGraph's types
    """Attempt one run until it ends, as the worker does."""
    clock = ManualClock()
    outcomes, run = answers_to(event({"text": ""}), clock)
    runner = Runner(
        WorkflowProcessor({"*": graph}, InMemorySaver(), clock=clock),
        outcomes,
        policy=lambda _: Policy(RetryConfig(max_retries=most)),
        grace_s=1.0,
        classifier=Classifier(),
        worker="w",
        clock=clock,
    )
    while True:
        step = (await runner.attempt(run, lease=Lease(), control=None)).next
        if isinstance(step, Outcome):
            return step, run
        assert isinstance(step, Again)


@pytest.mark.parametrize("in_place", range(5))
@pytest.mark.parametrize("most", range(5))
async def test_no_run_is_tried_more_often_than_its_policy_allows(in_place: int, most: int) -> None:
    called = []

    async def write(_: State) -> State:
        called.append("write")
        raise TransientError

    policy = retry_policy(in_place, initial_delay=0, max_delay=0, jitter=False)
    graph: Any = StateGraph(State)
    graph.add_node("write", write, retry_policy=policy).add_edge(START, "write")

    outcome, run = await worker(graph, most=most)

    assert outcome.ending is Ending.DEAD_LETTERED
    assert (len(called), run.tries) == (most + 1, most + 1)
    # Attempts of the graph are fewer: the first `in_place` retries of each were made in the node.
    assert run.attempts == -(-(most + 1) // (in_place + 1))
    answer = WorkflowResultEvent.from_bytes(outcome.records[0].value)
    assert answer.error_info is not None
    assert answer.error_info.reason == "retries_exhausted"


@pytest.mark.invariant("P4")
async def test_what_a_node_does_to_its_event_is_no_other_input_of_the_next_attempt() -> None:
    called = []

    async def write(state: State) -> State:
        current().event.payload.data["text"] = "changed"
        called.append(state["text"])
        if len(called) == 1:
            raise TransientError
        return state

    graph: Any = StateGraph(State)
    graph.add_node("write", write).add_edge(START, "write")

    outcome, _ = await worker(graph, most=1)

    assert (outcome.ending, called) == (Ending.SUCCEEDED, ["", ""])
