"""An exception that does not answer when it is asked for its text ends its own run, and no more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from tests.property.test_hostile_errors import CountingRedactor
from tests.unit.test_runner_node_retries import LETTERS, State, answers_to

from redrive.aside import Aside, Late, call_and_wait
from redrive.consumer.event_run import Run
from redrive.consumer.outcome import Ending, Outcome
from redrive.consumer.policy import Policy
from redrive.consumer.runner import NextStep, Runner
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.redacted_text import SILENT
from redrive.graphs import Lease, WorkflowProcessor, node_retry, retry_policy
from redrive.retry import Classifier, RetryConfig
from redrive.telemetry.redactor import Redactor
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock
from redrive.testing.worker_process import wait_until

LIMIT_S = 0.1
NAME = f"{__name__}.SilentError"


class SilentError(Exception):
    """Never says what it is, before the test is over."""

    released = threading.Event()

    def __str__(self) -> str:
        self.released.wait()
        return "at last"


class AskedError(Exception):
    """Notes the threads that ask it."""

    threads: set[int]

    def __str__(self) -> str:
        self.threads.add(threading.get_ident())
        return "password=hunter2 " * 3_000


@pytest.fixture(autouse=True)
def _released_at_the_end() -> Iterator[None]:
    SilentError.released.clear()
    yield
    SilentError.released.set()


async def attempt(error: Exception, *, redactor: Redactor | None = None) -> tuple[NextStep, Run]:
    async def fail(_: State) -> NoReturn:
        raise error

    builder: Any = StateGraph(State)
    builder.add_node("fail", fail, retry_policy=retry_policy(1, initial_delay=0, jitter=False))
    builder.add_edge(START, "fail")
    clock = ManualClock()
    answers, run = answers_to(event({"text": ""}), clock)
    answers.redactor = redactor or Redactor()
    runner = Runner(
        WorkflowProcessor({"*": builder}, InMemorySaver(), clock=clock),
        answers,
        policy=lambda _: Policy(RetryConfig(max_retries=0)),
        grace_s=1.0,
        classifier=Classifier(),
        worker="w",
        clock=clock,
        text_limit_s=LIMIT_S if isinstance(error, SilentError) else 60.0,
    )
    return await runner.attempt(run, lease=Lease(), control=None), run


def letter_of(step: NextStep) -> DeadLetter:
    assert isinstance(step.next, Outcome)
    assert step.next.ending is Ending.DEAD_LETTERED
    (record,) = [record for record in step.next.records if record.topic == LETTERS]
    return DeadLetter.model_validate_json(record.value or b"")


@pytest.mark.invariant("P1", "P7")
async def test_an_exception_without_an_answer_is_told_by_its_type_and_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_retry, "call_and_wait", partial(call_and_wait, limit_s=LIMIT_S))
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(LIMIT_S / 10)

    turning = asyncio.create_task(turn())
    step, run = await attempt(SilentError())
    turning.cancel()

    letter = letter_of(step)
    assert (letter.error.type, letter.error.message) == (NAME, SILENT)
    assert [cause.type for cause in letter.cause_chain] == [NAME]
    assert [(a.type, a.message) for a in run.failed] == [(NAME, SILENT)]
    # The loop went on while it was asked, and what asks it is watched as a stuck node is.
    assert turns > 3
    assert [lingering.alive for lingering in step.lingering_works] == [True]
    SilentError.released.set()
    assert await step.lingering_works[0].ended(60)


@pytest.mark.invariant("P7", "P15")
async def test_no_exception_is_asked_and_no_text_is_masked_on_the_event_loop() -> None:
    class NotingRedactor(CountingRedactor):
        threads: set[int]

        def mask(self, text: str) -> str:
            # Names and short words of ours are masked wherever they are told.
            if len(text) > 500:
                self.threads.add(threading.get_ident())
            return super().mask(text)

    error, redactor = AskedError(), NotingRedactor()
    error.threads, redactor.threads = set(), set()

    step, _ = await attempt(error, redactor=redactor)

    assert letter_of(step).error.message.startswith("password=[redacted:password]")
    assert error.threads
    assert redactor.threads
    assert threading.get_ident() not in error.threads | redactor.threads


@pytest.mark.invariant("P1")
async def test_without_kafka_it_is_told_by_its_type_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redrive.graphs.processor.Aside", partial(Aside, limit_s=LIMIT_S))

    async def fail(_: State) -> NoReturn:
        raise SilentError

    builder: Any = StateGraph(State)
    builder.add_node("fail", fail).add_edge(START, "fail")
    processor = WorkflowProcessor({"*": builder})

    answer = await processor.process_workflow_event(event({"text": ""}))

    assert answer.error_info is not None
    assert (answer.error_info.type, answer.error_info.message) == (NAME, "")


async def test_what_a_call_returns_or_raises_passes_and_one_that_is_late_goes_on() -> None:
    aside, late = Aside(limit_s=60), Aside(limit_s=LIMIT_S)

    assert await aside.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await aside.call(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        call_and_wait(lambda: exec("raise SystemExit"), about=SystemExit)  # noqa: S102 - an exit in a lambda
    found = [await late.call(SilentError().__str__) for _ in range(3)]
    assert all(isinstance(one, Late) and not one.future.done() for one in found)
    assert isinstance(
        call_and_wait(SilentError().__str__, about=SilentError, limit_s=LIMIT_S), Late
    )
    SilentError.released.set()
    assert [one.future.result(60) for one in found if isinstance(one, Late)] == ["at last"] * 3


class Hanging:
    """Calls that begin, and return when the test is over; `begun` says whose have begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def of(self, workflow_id: str) -> Callable[[], None]:
        def call() -> None:
            self.begun.append(workflow_id)
            SilentError.released.wait()

        return call


@pytest.mark.invariant("P7")
async def test_failures_of_one_workflow_that_hang_keep_no_other_waiting() -> None:
    """Ten hang; each is waited for until the test is over, and none gives its place up."""
    aside, hanging = Aside(limit_s=600, hold_s=600), Hanging()
    async with asyncio.TaskGroup() as group:
        stuck = [
            group.create_task(aside.call(hanging.of("bad"), workflow_id="bad")) for _ in range(10)
        ]
        await asyncio.to_thread(wait_until, lambda: hanging.begun, timeout_s=60, what="a call")

        assert await aside.call(lambda: "told", workflow_id="good") == "told"

        assert hanging.begun == ["bad"]
        assert not any(task.done() for task in stuck)
        SilentError.released.set()


@pytest.mark.invariant("P7")
async def test_workflows_that_hang_pass_their_places_on() -> None:
    """Six workflows hang, thrice as many as there are places; none is given up meanwhile."""
    aside, hanging = Aside(limit_s=600, hold_s=0.01), Hanging()
    bad = [f"bad-{number}" for number in range(6)]
    async with asyncio.TaskGroup() as group:
        stuck = [
            group.create_task(aside.call(hanging.of(name), workflow_id=name))
            for name in bad
            for _ in range(3)
        ]
        await asyncio.to_thread(
            wait_until, lambda: len(hanging.begun) >= 2, timeout_s=60, what="two calls"
        )

        assert await aside.call(lambda: "told", workflow_id="good") == "told"

        await asyncio.to_thread(
            wait_until, lambda: len(hanging.begun) == len(bad), timeout_s=60, what="all calls"
        )
        assert sorted(hanging.begun) == bad
        assert not any(task.done() for task in stuck)
        SilentError.released.set()


@pytest.mark.invariant("P7")
def test_a_type_that_hangs_is_waited_for_once_and_few_are() -> None:
    """Where nothing can be awaited, what is not asked is told at once."""
    hanging = Hanging()
    kinds = [type(f"Hangs{number}Error", (Exception,), {}) for number in range(6)]
    for kind in [*kinds, *kinds]:
        call = hanging.of(kind.__name__)
        assert isinstance(call_and_wait(call, about=kind, limit_s=LIMIT_S / 10), Late)

    assert hanging.begun == [kind.__name__ for kind in kinds[:4]]
    assert isinstance(call_and_wait(lambda: "told", about=ValueError), Late)

    SilentError.released.set()
    last = call_and_wait(hanging.of("last"), about=kinds[0])
    while isinstance(last, Late):  # Those that hung are about to end.
        last.future.result(60)
        last = call_and_wait(hanging.of("last"), about=kinds[0])
    assert hanging.begun[4:] == ["last"]
