"""Whatever a node raises: it is judged and told, within limits, in one letter. [P1, P7]"""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from langgraph.graph import START, StateGraph
from tests.property.hostile_errors import hostile_errors
from tests.property.test_answers import LETTERS, LIMIT, answers, run
from tests.unit.test_runner_node_retries import State, worker

from redrive.consumer.outcome import Ending
from redrive.consumer.outcome_builder import GivenUp
from redrive.dead_letter.record import DeadLetter
from redrive.graphs.attempt import _node
from redrive.graphs.contained import contain_exits
from redrive.graphs.node_retry import retry_policy
from redrive.retry import Classifier, dependency_of, reason_of
from redrive.retry.kinds import Reason
from redrive.telemetry.redactor import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MASKED_CHARS = 50_000
"""What is masked for one failure; a microsecond each at the worst."""


class CountingRedactor(Redactor):
    """Counts what it is given to mask."""

    def __init__(self) -> None:
        super().__init__()
        self.chars = 0

    def mask(self, text: str) -> str:
        self.chars += len(text)
        return super().mask(text)


def failures() -> Iterator[str]:
    """Take each through all that a worker does with a failure; yield what went wrong."""
    in_place = retry_policy().retry_on
    for name, error in hostile_errors():
        redactor = CountingRedactor()
        told = answers()
        told.redactor = redactor
        try:
            failure = Classifier().classify(error)
            reason_of(error)
            dependency_of(error)
            _node(error)
            if issubclass(type(error), Exception):
                in_place(error)  # type: ignore[operator,arg-type]  # a function of ours
            outcome = told.given_up(run(), GivenUp(error, failure, Reason.PERMANENT))
            (record,) = [record for record in outcome.records if record.topic == LETTERS]
            letter = DeadLetter.model_validate_json(record.value or b"")
        except BaseException as raised:  # noqa: BLE001 - whatever it raises is the finding
            where = "".join(traceback.format_tb(raised.__traceback__)[-3:])
            yield f"{name}: {type(raised).__name__} {where}"
            continue
        if outcome.ending is not Ending.DEAD_LETTERED or record.size_bytes > 3 * LIMIT:
            yield f"{name}: {outcome.ending}, {record.size_bytes} bytes"
        if redactor.chars > MAX_MASKED_CHARS:
            yield f"{name}: {redactor.chars} characters were masked"
        if not letter.error.type:
            yield f"{name}: no type"


@pytest.mark.invariant("P1", "P7")
def test_whatever_a_node_raises_is_judged_and_told_in_one_letter() -> None:
    assert sum(1 for _ in hostile_errors()) > 640
    assert list(failures()) == []


class Held:
    """What the node raises next; nothing that the graph itself reaches."""

    error: BaseException = ValueError()


async def node(state: State) -> State:  # noqa: ARG001 - LangGraph gives it
    raise getattr(sys.modules[__name__], "Held").error  # noqa: B009 - as above


# What coroutines say when a node has raised GeneratorExit: collected here, not in a later test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.invariant("P1", "P7")
@pytest.mark.parametrize("of", [9, pytest.param(1, marks=pytest.mark.nightly)])
async def test_whatever_a_node_raises_its_run_ends_in_one_letter(of: int) -> None:
    contain_exits(asyncio.get_running_loop())
    builder = StateGraph(State)
    builder.add_node("node", node, retry_policy=retry_policy(0))
    builder.add_edge(START, "node")
    raised = [(n, e) for n, e in hostile_errors() if n.endswith("raised")][::of]
    count = len(raised)

    wrong = []
    while raised:
        name, Held.error = raised.pop()
        outcome, _ = await worker(builder, most=0)
        letters = [record for record in outcome.records if record.topic == LETTERS]
        if outcome.ending is not Ending.DEAD_LETTERED or len(letters) != 1:
            wrong.append(name)

    Held.error = ValueError()
    gc.collect()
    assert wrong == []
    assert count > 10
