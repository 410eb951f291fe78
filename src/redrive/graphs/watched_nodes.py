"""Each node of a graph, watched: where it sends the run, and what it asks of a person.

LangGraph ignores a node that is told to go on where nothing is (it logs a warning), and takes an
interrupt without a question for one. Both are seen where the node ends, so every node of a graph,
and of the subgraphs compiled into it, is wrapped once, when it is loaded. Graphs that a node calls
in its own code are seen in `redrive.graphs.watched_loops`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from langgraph.graph import END
from langgraph.pregel import Pregel
from langgraph.pregel._read import PregelNode
from langgraph.types import Command, Send

from redrive.errors import EmptyInterruptError, UnknownNodeError
from redrive.graphs.guard import tasks_of
from redrive.graphs.loading import CompiledGraph, copy_of
from redrive.graphs.schedule import lost_targets
from redrive.graphs.tasks import Tasks

__all__ = ["watch_nodes"]


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
        vars(copied)["node"] = _Watched(copied.node, name, graph, workflow)
    return copied


class _Watched(Runnable[Any, Any]):
    """What a task of the node runs: the node itself, then its writers and routers.

    Streamed, it is invoked as well, as LangChain does with what has no stream of its own: LangGraph
    drops what a task yields.
    """

    def __init__(
        self,
        inner: Runnable[Any, Any],
        name: str,
        graph: CompiledGraph,
        workflow: str,
    ) -> None:
        self._inner = inner
        self._node = name
        self._channels = graph.channels
        self._nodes = graph.nodes
        self._workflow = workflow

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ANN401 - LangChain's
        tasks = None if config is None else tasks_of(config)
        if tasks is None or config is None:
            return self._inner.invoke(input, config, **kwargs)
        try:
            result = self._inner.invoke(input, config, **kwargs)
        except GraphBubbleUp as bubbled:
            self._check_bubbled(bubbled, config, tasks)
            raise
        self._check_writes(config)
        return result

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ANN401 - LangChain's
        tasks = None if config is None else tasks_of(config)
        if tasks is None or config is None:
            return await self._inner.ainvoke(input, config, **kwargs)
        body = tasks.begin()
        try:
            result = await self._inner.ainvoke(input, config, **kwargs)
        except GraphBubbleUp as bubbled:
            self._check_bubbled(bubbled, config, tasks)
            raise
        finally:
            tasks.ended(body)
        self._check_writes(config)
        return result

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


def _namespace(config: RunnableConfig) -> str:
    return str(config.get("configurable", {}).get("checkpoint_ns", ""))


def _without_ids(namespace: str) -> str:
    return "|".join(part.partition(":")[0] for part in namespace.split("|"))


def _targets(command: Command[Any]) -> list[str]:
    goto = command.goto if isinstance(command.goto, list | tuple) else (command.goto,)
    return [one.node if isinstance(one, Send) else str(one) for one in goto]
