"""Each node of a graph, watched: where it sends the run, and that its siblings come to their end.

LangGraph ignores a node that is told to go on where nothing is (it logs a warning), and cancels
the parallel branches of a node that failed, so that they are paid for again. Both happen around a
node, so every node of a graph, and of the subgraphs compiled into it, is wrapped once, when it is
loaded. Graphs that a node calls in its own code are seen in `redrive.graphs.watched_loops`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from langgraph.graph import END
from langgraph.pregel import Pregel
from langgraph.pregel._read import PregelNode
from langgraph.types import Command, RetryPolicy, Send

from redrive.clock import SYSTEM
from redrive.errors import EmptyInterruptError, FalsyError, UnknownNodeError
from redrive.graphs.loading import CompiledGraph, copy_of
from redrive.graphs.schedule import lost_targets

__all__ = ["TASKS", "Tasks", "watch_nodes"]

# Between the end of a task and LangGraph's own note of it: some turns of the loop.
_TURNS_TO_COMMIT = 8
_LONGEST_WAIT_S = 600.0
_DEFAULT_RETRY_ON = RetryPolicy().retry_on

Step = tuple[str, object]
"""A superstep: its namespace, and its number there."""


class Tasks:
    """The tasks of one attempt: which of them run now, and where the run has stopped.

    Args:
        workflow: The graph's name, for messages.
        finish_siblings: Whether a failed task waits for those of its step that run beside it, so
            that their results are stored before the step ends. Without checkpoints that would gain
            nothing.
    """

    def __init__(self, workflow: str = "", *, finish_siblings: bool = False) -> None:
        self.workflow = workflow
        self.stopped_in: set[str] = set()
        """The namespaces of graphs that have stopped, at a breakpoint or with a question."""
        self._finish_siblings = finish_siblings
        self._running: defaultdict[Step, set[asyncio.Task[Any]]] = defaultdict(set)
        self._failed: set[asyncio.Task[Any]] = set()
        self._due: defaultdict[Step, list[asyncio.Future[None]]] = defaultdict(list)
        self._raised: list[BaseException] = []
        self.failure: Exception | None = None
        """What a task failed with whose wait for its siblings was cut off."""

    @property
    def alive(self) -> set[asyncio.Task[Any]]:
        """The tasks that run now."""
        return {task for group in self._running.values() for task in group if not task.done()}

    async def end(self, *, limit_s: float) -> None:
        """Cancel what still runs, and wait for it for so many seconds.

        LangGraph leaves nodes of inner subgraphs to themselves when an outer one is cancelled.
        """
        running = self.alive
        for task in running:
            if not task.cancelling():
                task.cancel()
        if running:
            await asyncio.wait(running, timeout=limit_s)

    def begin(self, config: RunnableConfig, *, handles: bool) -> Step:
        """Note that a task starts, that of an error handler perhaps; return its step."""
        step = _step(config, handles=handles)
        if handles and self._due[step]:
            self._due[step].pop().set_result(None)
        return step

    def stopped_within(self, namespace: str) -> bool:
        """Tell whether a graph has stopped that the task of this namespace is, or has called."""
        # One with `checkpointer=True` has a namespace without the ids of tasks.
        within = (namespace, _without_ids(namespace))
        return any(
            name == outer or name.startswith(f"{outer}|")
            for name in self.stopped_in
            for outer in within
        )

    def raised(self, error: BaseException) -> None:
        """Keep what a node raised for as long as the attempt lasts.

        LangGraph knows handled errors by their `id()`: a later one must not have it again.
        """
        self._raised.append(error)

    def handler_is_due(self, step: Step) -> None:
        """Expect an error handler in this step, in place of the task that failed."""
        self._due[step].append(asyncio.get_running_loop().create_future())

    def running(self, step: Step) -> asyncio.Task[Any] | None:
        """Count the calling task among those of its step until `ended`."""
        task = asyncio.current_task()
        if task is not None:
            self._running[step].add(task)
        return task

    def ended(self, step: Step, task: asyncio.Task[Any] | None) -> None:
        """Count it no more."""
        if task is not None:
            self._failed.discard(task)
            self._running[step].discard(task)
            if not self._running[step]:
                del self._running[step]

    async def siblings_end(
        self, step: Step, task: asyncio.Task[Any] | None, error: Exception
    ) -> None:
        """Wait, in a task that failed, until those beside it have ended or failed as well.

        For ten minutes at most: a branch may wait for what the failed one was to give it. The
        attempt's own limits end it before.
        """
        if task is None or not self._finish_siblings:
            return
        self._failed.add(task)
        try:
            await self._until_none_runs(step)
        except asyncio.CancelledError:
            self.failure = self.failure or error
            raise

    async def _until_none_runs(self, step: Step) -> None:
        until = SYSTEM.monotonic() + _LONGEST_WAIT_S
        while (others := self._others(step)) and (left_s := until - SYSTEM.monotonic()) > 0:
            await asyncio.wait(others, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for _ in range(_TURNS_TO_COMMIT):
                await asyncio.sleep(0)

    def _others(self, step: Step) -> set[asyncio.Future[Any]]:
        running = {task for task in self._running[step] - self._failed if not task.done()}
        return running | set(self._due[step])


TASKS: ContextVar[Tasks | None] = ContextVar("redrive_tasks", default=None)
"""The tasks of this attempt; set by the processor."""


def watch_nodes(graph: CompiledGraph, *, workflow: str) -> CompiledGraph:
    """Return a copy of the graph whose nodes, also those of its subgraphs, are watched."""
    nodes = {name: _watched(node, name, graph, workflow) for name, node in graph.nodes.items()}
    return copy_of(graph, nodes=nodes)


def _watched(node: PregelNode, name: str, graph: CompiledGraph, workflow: str) -> PregelNode:
    if isinstance(node.bound, Pregel):
        inner = watch_nodes(node.bound, workflow=workflow)
        copied = node.copy({"bound": inner, "subgraphs": [inner] if node.subgraphs else []})
    else:
        copied = node.copy({})
    if copied.node is not None:
        # What LangGraph runs of a node is a cached property.
        vars(copied)["node"] = _Watched(copied.node, copied, name, graph, workflow)
    return copied


class _Watched(Runnable[Any, Any]):
    """What a task of the node runs: the node itself, then its writers and routers.

    Streamed, it is invoked as well, as LangChain does with what has no stream of its own: LangGraph
    drops what a task yields.
    """

    def __init__(
        self,
        inner: Runnable[Any, Any],
        node: PregelNode,
        name: str,
        graph: CompiledGraph,
        workflow: str,
    ) -> None:
        self._inner = inner
        self._policies = tuple(node.retry_policy or ())
        # LangGraph's own limit of the node would end the wait for its siblings.
        self._is_timed = node.timeout is not None
        self._node = name
        self._channels = graph.channels
        self._nodes = graph.nodes
        self._workflow = workflow
        self._is_handler = node.is_error_handler
        self._has_handler = node.error_handler_node is not None

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ANN401 - LangChain's
        tasks = TASKS.get()
        if tasks is None or config is None:
            return self._inner.invoke(input, config, **kwargs)
        tasks.begin(config, handles=self._is_handler)
        try:
            result = self._inner.invoke(input, config, **kwargs)
        except GraphBubbleUp as bubbled:
            self._check_bubbled(bubbled, config, tasks)
            raise
        self._check_writes(config)
        return result

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ANN401 - LangChain's
        tasks = TASKS.get()
        if tasks is None or config is None:
            return await self._inner.ainvoke(input, config, **kwargs)
        step = tasks.begin(config, handles=self._is_handler)
        task = tasks.running(step)
        try:
            result = await self._inner.ainvoke(input, config, **kwargs)
            self._check_writes(config)
        except GraphBubbleUp as bubbled:
            self._check_bubbled(bubbled, config, tasks)
            raise
        except Exception as error:
            tasks.raised(error)
            if self._is_last_try(error, config):
                if self._has_handler:
                    tasks.handler_is_due(step)
                elif not self._is_timed:
                    await tasks.siblings_end(step, task, error)
            if _is_false(error):
                raise FalsyError(error) from error
            raise
        finally:
            tasks.ended(step, task)
        return result

    def _is_last_try(self, error: Exception, config: RunnableConfig) -> bool:
        """Tell whether LangGraph has no try in place left: before that, siblings go on anyway.

        A `retry_on` that is a function is not asked: it may count (`redrive.graphs.retry_policy`).
        """
        policy = next((one for one in self._policies if _may_match(one.retry_on, error)), None)
        if policy is None:
            return True
        info = getattr(
            config.get("configurable", {}).get("__pregel_runtime"), "execution_info", None
        )
        return info is not None and info.node_attempt >= policy.max_attempts

    def _check_writes(self, config: RunnableConfig) -> None:
        """Refuse what the task wrote if it sends the run to a node that is not there."""
        send = config.get("configurable", {}).get("__pregel_send")
        writes: Iterable[tuple[str, Any]] = getattr(send, "__self__", ())
        lost = lost_targets(writes, nodes=self._nodes, channels=self._channels)
        if lost:
            raise UnknownNodeError(workflow=self._workflow, targets=lost)

    def _check_bubbled(self, bubbled: GraphBubbleUp, config: RunnableConfig, tasks: Tasks) -> None:
        """Refuse an interrupt without a question, and a command of a subgraph to no node of ours.

        A subgraph's own breakpoint looks like such an interrupt, and is none.
        """
        match bubbled:
            case GraphInterrupt() if not any(bubbled.args):
                if not tasks.stopped_within(_namespace(config)):
                    raise EmptyInterruptError(self._node) from bubbled
            case ParentCommand(args=(Command() as command, *_)) if self._is_meant(command, config):
                lost = tuple(name for name in _targets(command) if name not in (END, *self._nodes))
                if lost:
                    raise UnknownNodeError(workflow=self._workflow, targets=lost)
            case _:
                pass

    def _is_meant(self, command: Command[Any], config: RunnableConfig) -> bool:
        namespace = _namespace(config)
        return command.graph in (namespace, _without_ids(namespace), self._node)


def _may_match(retry_on: object, error: Exception) -> bool:
    match retry_on:
        case type():
            return isinstance(error, retry_on)
        case list() | tuple():
            return isinstance(error, tuple(retry_on))
        case _:
            known: Any = retry_on
            return retry_on is not _DEFAULT_RETRY_ON or bool(known(error))


def _is_false(error: Exception) -> bool:
    """Tell whether LangGraph would take the error for none: it asks `if exception`."""
    try:
        return not bool(error)
    except Exception:  # noqa: BLE001 - someone else's `__bool__`
        return False


def _step(config: RunnableConfig, *, handles: bool) -> Step:
    outer = _namespace(config).rpartition("|")[0]
    if handles:  # its namespace lies within that of the task that failed
        outer = outer.rpartition("|")[0]
    return outer, config.get("metadata", {}).get("langgraph_step")


def _namespace(config: RunnableConfig) -> str:
    return str(config.get("configurable", {}).get("checkpoint_ns", ""))


def _without_ids(namespace: str) -> str:
    return "|".join(part.partition(":")[0] for part in namespace.split("|"))


def _targets(command: Command[Any]) -> list[str]:
    goto = command.goto if isinstance(command.goto, list | tuple) else (command.goto,)
    return [one.node if isinstance(one, Send) else str(one) for one in goto]
