"""One attempt: look at its thread, run or resume its graph, map what comes in and out.

User code may raise anywhere here; `redrive.graphs.processor` is the boundary that catches it.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.runtime import RunControl
from langgraph.types import Durability, StateSnapshot

from redrive.errors import CheckpointGoneError, StaleAttemptError
from redrive.events import WorkflowEvent
from redrive.graphs.access import ThreadAccess
from redrive.graphs.attempt_ends import Ended, Failed, GraphVersion, Position, Redriven
from redrive.graphs.comes_back import comes_back
from redrive.graphs.guard import GuardedSaver
from redrive.graphs.json_results import GraphFailed, to_json
from redrive.graphs.lingering_work import LingeringWork
from redrive.graphs.loading import CompiledGraph
from redrive.graphs.node_threads import WorkInThreads
from redrive.graphs.recursion import name_setting
from redrive.graphs.registry import LoadedGraph
from redrive.graphs.resume_verifier import ResumeVerifier
from redrive.graphs.run_config import json_copy, run_given
from redrive.graphs.tasks import Tasks
from redrive.graphs.threads import Thread, ThreadStatus, position, read_thread
from redrive.graphs.timeouts import Limit
from redrive.retry.kinds import Reason
from redrive.retry.rules.rule_verdict import notes_of

__all__ = ["GraphAttempt", "failed"]

_INTERRUPT = "__interrupt__"
# A checkpointer that hangs must not hold back the failure that it may have caused.
_POSITION_S = 5.0
# What an attempt has left running is cancelled, and has this long to come to its end.
_UNWIND_S = 0.8
_NODE_NOTE = re.compile(r"During task with name '(.+)' and id '[^']*'")


@dataclass(slots=True)
class GraphAttempt:
    """What one attempt works with; `resumed` is learnt on the way.

    `access` says which state of its thread is its own; `graph` is a copy of the loaded one with the
    attempt's own checkpointer under it; `threads` is what it has running in threads; `redriven` is
    set when a letter is to be resumed, and a witness of `tasks`, which are those that run, then
    sees them.
    """

    event: WorkflowEvent
    access: ThreadAccess
    loaded: LoadedGraph
    graph: CompiledGraph
    config: RunnableConfig
    saver: GuardedSaver | None
    resumed: bool = False
    threads: WorkInThreads = field(default_factory=WorkInThreads)
    redriven: Redriven | None = None
    tasks: Tasks = field(default_factory=Tasks)

    @property
    def version(self) -> GraphVersion:
        """The graph that runs, and its version."""
        return GraphVersion(self.loaded.id, self.loaded.version)

    @property
    def thread_id(self) -> str:
        """The LangGraph thread."""
        return self.access.thread_id

    async def look(self) -> Thread:
        """Read the thread, and note whether there is something to go on from."""
        stopped_at = None if self.redriven is None else self.redriven.stopped_at
        if self.saver is None:
            if stopped_at is not None:
                raise CheckpointGoneError(thread_id=self.thread_id, checkpoint_id=stopped_at)
            return Thread(ThreadStatus.START)
        thread = await read_thread(
            self.saver,
            self.graph,
            config=self.config,
            access=self.access,
            graph_id=self.loaded.id,
            stopped_at=stopped_at,
        )
        self.resumed = thread.status is not ThreadStatus.START
        if self.redriven is not None and thread.snapshot is not None:
            self.tasks.verifier = ResumeVerifier(thread.snapshot, thread.finished)
        return thread

    def unverified(self, *, ended: bool) -> tuple[str, ...] | None:
        """Return what does not hold of a letter's resume; None where there was none."""
        verifier, saver = self.tasks.verifier, self.saver
        if verifier is None or saver is None:
            return None
        return verifier.complaints(ended=ended, stored=saver.schedule.results)

    async def go_on(self, thread: Thread, control: RunControl | None) -> Ended:
        """Do what the thread's standing asks for, up to the end of the run.

        Raises:
            GraphDrained: The run stopped at a checkpoint because `control` asked for it.
            BaseException: Whatever user code raises.
        """
        match thread.status, thread.snapshot:
            case ThreadStatus.WAITING, StateSnapshot() as snapshot:
                return self._interrupted(_with_interrupts(self.graph, snapshot))
            case ThreadStatus.FINISHED, StateSnapshot() as snapshot:
                return await self._ended(_output_of(self.graph, snapshot.values))
            case ThreadStatus.RESUME, _:
                given = None
            case _:
                given = await self._input()
        # Stored before the next node starts: what was done is not done again. [P4]
        durability: Durability | None = None if self.saver is None else "sync"
        beside = await run_given(self.event, self.loaded)
        config = beside.added_to(self.config)
        if self.saver is not None:
            self.saver.unstored |= beside.names
        try:
            state = await self.graph.ainvoke(
                given, config, context=beside.context, durability=durability, control=control
            )
        except GraphRecursionError as error:
            loaded = self.loaded
            name_setting(error, loaded.compiled, graph=loaded.id, limit=loaded.recursion_limit)
            raise
        asks = isinstance(state, dict) and _INTERRUPT in state
        if self.saver is None:
            stopped = asks or self.tasks.stopped_in
            return self._interrupted(_as_state(state)) if stopped else await self._ended(state)
        if asks or self.saver.schedule.left():
            return await self._stopped(self.saver)
        return await self._ended(await self._stored(state))

    async def _stopped(self, saver: GuardedSaver) -> Ended:
        """Tell of a run that stopped before its end: a person is to go on with it.

        Raises:
            SkippedNodeError: Nobody can: nothing was asked, and no breakpoint holds.
        """
        snapshot = await self.graph.aget_state(self.config)
        if not snapshot.interrupts and not self.tasks.stopped_in:
            saver.schedule.check_end()
            return await self._ended(_output_of(self.graph, snapshot.values))
        return self._interrupted(_with_interrupts(self.graph, snapshot))

    async def _input(self) -> object:
        mapper = self.loaded.input
        if mapper is None:
            return json_copy(self.event.payload.data)
        return await _settled(mapper(self.event))

    async def _ended(self, state: object) -> Ended:
        mapper = self.loaded.output
        result = state if mapper is None else await _settled(mapper(state))
        if isinstance(result, GraphFailed):
            return Ended(
                result=to_json(result.result),
                resumed=self.resumed,
                reason=Reason.GRAPH_FAILED,
                error=str(result.error),
            )
        return Ended(result=to_json(result), resumed=self.resumed)

    async def _stored(self, state: object) -> object:
        """Return a run's last state as each later delivery of its event will find it.

        So that the first answer is equal to all others. A read, where the two may differ.
        """
        if comes_back(self.graph, state):
            return state
        snapshot = await self.graph.aget_state(self.config)
        return _output_of(self.graph, snapshot.values)

    def _interrupted(self, state: dict[str, object]) -> Ended:
        asked = state[_INTERRUPT]
        where = f"see {_INTERRUPT} in the result" if asked else "it stands at a breakpoint"
        return Ended(
            result=to_json(state),
            resumed=self.resumed,
            reason=Reason.INTERRUPT,
            error=f"graph {self.loaded.id!r} waits for a person: {where}",
        )


async def failed(
    attempt: GraphAttempt, error: BaseException, *, task: asyncio.Task[Any] | None = None
) -> Failed:
    """Tell what raised, in which node of which graph, and where the thread stands.

    Args:
        attempt: What failed.
        error: What it raised, or the limit that it reached.
        task: The attempt's own; it may have been left behind.
    """
    stands = await _position(attempt, error)
    node = _node(error)
    if node is None and isinstance(error, Limit) and stands is not None:
        node = next(iter(stands.next), None)
    if task is None or task.done():
        # Else it was cancelled with all of its nodes, and has had its moment.
        await attempt.tasks.end(limit_s=_UNWIND_S)
    lingering = LingeringWork(task, attempt.threads, attempt.tasks.alive)
    return Failed(
        error=error,
        node=node,
        position=stands,
        resumed=attempt.resumed,
        graph=attempt.version,
        lingering=lingering if lingering.alive else None,
    )


async def _position(attempt: GraphAttempt, error: BaseException) -> Position | None:
    # A stale attempt's thread belongs to another by now.
    if attempt.saver is None or isinstance(error, StaleAttemptError):
        return None
    try:
        async with asyncio.timeout(_POSITION_S):
            return await position(attempt.saver, attempt.graph, attempt.config, attempt.access)
    except Exception:  # noqa: BLE001 - the first error is the one to tell, not that it has no place
        return None


def _node(error: BaseException) -> str | None:
    """Return the failing node; one inside a subgraph as `outer/inner`."""
    names: list[str] = []
    for note in notes_of(error):
        match = _NODE_NOTE.fullmatch(note)
        # An exception object that is raised again collects its notes again.
        if match is not None and match[1] not in names:
            names.append(match[1])
    return "/".join(reversed(names)) or None


def _output_of(graph: CompiledGraph, values: Any) -> object:  # noqa: ANN401 - the graph's own type
    """Reduce a stored state to what the graph's output schema lets out, as a run does."""
    names = graph.output_channels
    if isinstance(names, str) or not isinstance(values, dict):
        return values
    return {name: values[name] for name in names if name in values}


def _with_interrupts(graph: CompiledGraph, snapshot: StateSnapshot) -> dict[str, object]:
    """Return the output of a run that waits, with what it asks: at first and when asked again."""
    state = _as_state(_output_of(graph, snapshot.values))
    return {**state, _INTERRUPT: list(snapshot.interrupts)}


def _as_state(output: object) -> dict[str, object]:
    state: dict[str, object] = dict(output) if isinstance(output, dict) else {"state": output}
    return {_INTERRUPT: [], **state}


async def _settled(value: object) -> object:
    return await value if inspect.isawaitable(value) else value
