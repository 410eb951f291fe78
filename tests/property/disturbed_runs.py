"""Runs a random graph under faults, attempt by attempt as workers would, and says what went wrong.

What must hold is compared with one run of plain LangGraph that nothing disturbed: the same result,
each node and route executed as often, and executed again only where its result could not be stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from tests.property.random_cases import Case, Fault, Kind, Stop
from tests.property.random_graphs import INPUT, Body, Graph, build, first_name, nodes_of, renamed
from tests.property.watched_runs import Execution, Watch, WatchedAttempt, WatchedSaver

from redrive import WorkflowEvent, WorkflowProcessor, classify
from redrive.errors import GraphChangedError
from redrive.events import ResultStatus
from redrive.graphs import Checkpoints, CheckpointSettings, Drained, Ended, Failed, Lease, RunEnd
from redrive.graphs.attempt_ends import Redriven
from redrive.graphs.contained import contain_exits
from redrive.graphs.node_threads import NodeThreads
from redrive.retry import RetryConfig, decide, reason_of
from redrive.retry.decision import GiveUp

__all__ = ["Store", "attempt", "complaints", "in_a_worker", "not_as_undisturbed"]

EVENT = WorkflowEvent.model_validate(
    {
        "event_id": "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e",
        "timestamp": "2026-01-01T00:00:00Z",
        "workflow_id": "work",
        "workflow_run_id": "run",
        "payload": {"data": INPUT},
    }
)
THREAD = f"{EVENT.event_id}/0/0"
_THREADS = 16
_PATIENCE_S = 60.0


@contextmanager
def in_a_worker() -> Iterator[asyncio.Runner]:
    """Give an event loop that is set up as a worker sets up its own."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        loop.set_default_executor(NodeThreads(_THREADS))
        contain_exits(loop)
        yield runner


@dataclass(frozen=True, slots=True)
class Store:
    """Where the thread is kept: in a file, opened anew for each attempt, or in memory."""

    memory: InMemorySaver
    file: Path | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[BaseCheckpointSaver[Any]]:
        if self.file is None:
            yield self.memory
            return
        async with Checkpoints(CheckpointSettings(url=f"sqlite:///{self.file}")) as checkpoints:
            assert checkpoints.saver is not None
            yield checkpoints.saver

    def copied(self) -> Store:
        """Return the same thread, to try something on; only of one in memory."""
        copy = InMemorySaver()
        for thread, by_namespace in self.memory.storage.items():
            for namespace, by_id in by_namespace.items():
                copy.storage[thread][namespace] = dict(by_id)
        for key, writes in self.memory.writes.items():
            copy.writes[key] = dict(writes)
        copy.blobs.update(self.memory.blobs)
        return Store(copy)


async def attempt(
    graph: Graph,
    store: Store,
    watch: Watch,
    *,
    stop: Stop | None = None,
    redriven: Redriven | None = None,
) -> RunEnd | None:
    """Run one attempt as a new worker would; None when it died."""
    seen = watch.begin(stop)
    async with store.opened() as saver:
        processor = _processor(graph, saver, seen)
        seen.control = processor.new_control()
        lease = Lease()
        try:
            end = await processor.run(
                EVENT,
                thread_id=THREAD,
                lease=lease,
                control=seen.control,
                redriven=redriven,
                redrive_count=0 if redriven is None else 1,
                policy=RetryConfig(),
            )
        finally:
            lease.end()
        if isinstance(end, Failed) and end.lingering is not None:
            assert await end.lingering.ended(_PATIENCE_S), "a node did not end"
    seen.over = True
    await _end_stragglers()
    return None if seen.dead else end


async def _end_stragglers() -> None:
    """End what LangGraph leaves behind of a cancelled subgraph: next comes a new process."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, alive = await asyncio.wait(left, timeout=_PATIENCE_S)
        assert not alive, alive


def _processor(
    graph: Graph, saver: BaseCheckpointSaver[Any], seen: WatchedAttempt
) -> WorkflowProcessor:
    return WorkflowProcessor({"work": build(graph, seen)}, WatchedSaver(saver, seen))


async def complaints(case: Case, folder: Path) -> list[str]:
    """Play a case, and return what went wrong; empty when all is well.

    Args:
        case: What to play.
        folder: For its checkpoints, where they are kept in a file.
    """
    file = folder / f"{uuid4()}.db" if case.in_a_file else None
    story = _Story(case, Store(InMemorySaver(), file))
    await story.play()
    return story.watch.complaints


def not_as_undisturbed(
    case: Case, end: Ended, executions: Iterable[Execution], stored: Collection[str]
) -> list[str]:
    """Compare a success with the run that nothing disturbed: its result, and what was executed."""
    wrong = []
    if end.result != case.result:
        wrong.append(f"the result is {end.result}, and not {case.result}")
    ran = {(at.tp, at.task) for at in executions}
    # A step's checkpoint may be kept, and the writes that it has taken in be lost with the process.
    missing = case.executed - Counter(tp for tp, _ in ran)
    more = Counter(tp for tp, task in ran if task in stored) - case.executed
    if missing or more:
        wrong.append(f"not executed: {dict(missing)}; executed and not called for: {dict(more)}")
    return wrong


class _Story:
    def __init__(self, case: Case, store: Store) -> None:
        self.case = case
        self.store = store
        self.watch = Watch(case.faults)
        self.redriven: Redriven | None = None
        self._callers = _with_body(case.graph, Body.CALLED)
        self._handled = _with_body(case.graph, Body.HANDLED)

    def complain(self, text: str) -> None:
        self.watch.complaints.append(text)

    async def play(self) -> None:
        most = len(self.case.faults) + len(self.case.stops) + 3
        for number in range(1, most + 1):
            for at, path in self.case.renames:
                if at == number:
                    await self._try_renamed(path)
            stops = self.case.stops
            stop = stops[number - 1] if number <= len(stops) else None
            end = await attempt(
                self.case.graph, self.store, self.watch, stop=stop, redriven=self.redriven
            )
            self._look(number, end)
            if isinstance(end, Ended) and end.reason is None:
                await self._succeeded(end)
                return
            if isinstance(end, Ended):
                if not self._has_met(Kind.INTERRUPT):
                    self.complain(f"attempt {number} ended as {end.reason}: {end.error}")
                return
            if self.watch.complaints:
                return
        if not (self.case.must_fail or self._handler_failed()):
            self.complain(f"it had not ended after {most} attempts: {end}")

    def _look(self, number: int, end: RunEnd | None) -> None:
        """Judge one attempt."""
        seen = self.watch.attempts[-1]
        match end:
            case Failed(error=error) if not seen.failed and not self.case.must_fail:
                if not self._handler_failed():
                    self.complain(f"attempt {number} failed by itself: {error!r}")
            case Failed(error=error, position=position):
                decision = decide(
                    classify(error),
                    failed_attempts=1,
                    policy=RetryConfig(),
                    roll=0.5,
                    reason=reason_of(error),
                )
                if isinstance(decision, GiveUp):
                    at = None if position is None else position.checkpoint_id
                    self.redriven = Redriven(stopped_at=at)
            case Drained() if not seen.drained:
                self.complain(f"attempt {number} was drained by itself")
        if end is not None:
            self._look_for_lost_results(number)

    def _look_for_lost_results(self, number: int) -> None:
        """What ran to its end must be kept; what failed, and what that cut short, may not be."""
        seen = self.watch.attempts[-1]
        cuts = any(self._cuts_others(fault) for fault, _ in seen.failed)
        if self.case.leads_nowhere or (cuts and seen.others_may_run_again):
            return
        callers = self._callers if seen.drained else ()
        for at, execution in enumerate(seen.executions):
            excused = (
                execution.task in seen.failing
                or (bool(seen.failed) and self._is_handled(execution))
                or (cuts and at >= (seen.at_first_failure or 0))
                or execution.tp in callers
            )
            if execution.task not in self.watch.stored and not excused:
                self.complain(f"{execution.tp} ran in attempt {number}, and that was not stored")

    def _is_handled(self, execution: Execution) -> bool:
        """Say whether it has an error handler, or is one: no failure beside it waits for those."""
        return execution.tp.endswith("!") or execution.tp in self._handled

    def _cuts_others(self, fault: Fault) -> bool:
        """Say whether those beside a failure are cancelled; else they come to their end first.

        They are where LangGraph takes what was raised for no failure of a node's, and in subgraphs
        that a node calls: redrive does not see those.
        """
        called = any(fault.tp.startswith(f"{caller}/") for caller in self._callers)
        return called or fault.kind not in (Kind.TRANSIENT, Kind.PERMANENT, Kind.UNKNOWN)

    async def _succeeded(self, end: Ended) -> None:
        if self.case.must_fail:
            self.complain(f"it is a success, and must be none: {end.result}")
            return
        if end.unverified:
            self.complain(f"its resume is said to be wrong: {end.unverified}")
        executions = [at for seen in self.watch.attempts for at in seen.executions]
        self.watch.complaints += not_as_undisturbed(self.case, end, executions, self.watch.stored)
        await self._again(end)

    async def _again(self, end: Ended) -> None:
        """Deliver the event again, to a worker and without one: nothing runs, the answer stays."""
        seen, lease = self.watch.begin(), Lease()
        async with self.store.opened() as saver:
            processor = _processor(self.case.graph, saver, seen)
            again = await processor.run(EVENT, thread_id=THREAD, lease=lease)
            answer = await processor.process_workflow_event(EVENT)
        lease.end()
        if not isinstance(again, Ended) or (again.result, again.reason) != (end.result, None):
            self.complain(f"delivered again it is answered otherwise: {again}")
        if (answer.status, answer.result) != (ResultStatus.SUCCESS, end.result):
            self.complain(f"without a worker it is answered otherwise: {answer}")
        if seen.executions:
            self.complain(f"delivered again it ran {[one.tp for one in seen.executions]}")

    def _is_called(self, path: str) -> bool:
        """Tell whether a node lies in a graph that another node calls."""
        bodies = {tp: node.body for tp, node in nodes_of(self.case.graph)}
        return any(
            bodies.get(path[:end]) is Body.CALLED for end, char in enumerate(path) if char == "/"
        )

    async def _try_renamed(self, path: str | None) -> None:
        """Let a new version of the graph go on, on a copy: to the same result, or not at all."""
        failed = self._failed_node()
        chosen = failed if path is None else path
        if chosen is None or self.store.file is not None or not self.watch.attempts:
            return
        graph, store = renamed(self.case.graph, chosen), self.store.copied()
        watch = Watch(stored=self.watch.stored)
        end = await attempt(graph, store, watch, redriven=self.redriven)
        self.watch.complaints += [f"with {chosen} renamed: {told}" for told in watch.complaints]
        ran = [execution.tp for execution in watch.attempts[-1].executions]
        match end:
            case Failed(error=GraphChangedError()):
                # A called graph is refused when it begins: then its caller is at work, and
                # so may be what was in flight beside it.
                if ran and not self._is_called(chosen):
                    self.complain(f"with {chosen} renamed it was refused, and ran {ran}")
            case Ended(reason=None, result={"trail": trail}) if not self.case.must_fail:
                trail = sorted(map(first_name, trail))
                if trail != self.case.result["trail"]:
                    self.complain(f"with {chosen} renamed it is a success with {trail}; ran {ran}")
                elif failed is not None and f"{failed}/".startswith(f"{chosen}/"):
                    self.complain(f"{chosen} waited, was renamed, and it is a success; ran {ran}")
            case _:
                if not (self.case.must_fail or self._handler_failed()):
                    self.complain(f"with {chosen} renamed: {end}")

    def _failed_node(self) -> str | None:
        """Return the path of the node that failed first in the last attempt, and waits now."""
        seen = self.watch.attempts[-1] if self.watch.attempts else None
        if seen is None or seen.dead or not seen.failed:
            return None
        path, _, last = seen.failed[0][1].tp.partition("?")[0].rpartition("/")
        if last == "__start__" or last.endswith("!"):
            return path or None
        return f"{path}/{last}" if path else last

    def _has_met(self, kind: Kind) -> bool:
        return any(fault.kind is kind for seen in self.watch.attempts for fault, _ in seen.failed)

    def _handler_failed(self) -> bool:
        """An error handler that raises may be the end of its run, as long as that is told."""
        return any(
            fault.tp.endswith("!") for seen in self.watch.attempts for fault, _ in seen.failed
        )


def _with_body(graph: Graph, body: Body) -> frozenset[str]:
    return frozenset(path for path, node in nodes_of(graph) if node.body is body)
