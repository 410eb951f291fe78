"""When a node of an attempt last moved, and the callback handler that sees it move.

Checkpoint writes are seen by the guard; nothing here decides how long is too long.
"""

from __future__ import annotations

from collections.abc import Callable

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore

from redrive.clock import SYSTEM

__all__ = ["NodeProgress", "watched"]

# LangGraph's own names: the runtime of every node and subgraph, and the observer of a
# node that has an idle timeout of its own (its `heartbeat` is LangGraph's).
_RUNTIME_KEY, _OBSERVER_KEY = "__pregel_runtime", "__pregel_timed_attempt_observer"


class NodeProgress:
    """Knows when something last moved, in real monotonic seconds. Safe from any thread.

    Args:
        moved: Told of each move as well.
    """

    __slots__ = ("_moved", "at")

    def __init__(self, moved: Callable[[], None] | None = None) -> None:
        self.at = SYSTEM.monotonic()
        self._moved = moved

    def touch(self) -> None:
        """Note that something moved now."""
        self.at = SYSTEM.monotonic()
        if self._moved is not None:
            self._moved()


def watched(
    config: RunnableConfig, progress: NodeProgress, *, store: BaseStore | None
) -> RunnableConfig:
    """Return the config with which a run's callback events and `runtime.heartbeat()` are progress.

    Args:
        config: What the graph is run with.
        progress: Touched by each event.
        store: The graph's own. LangGraph takes it from the runtime where one is given, and fills in
            all other fields of it by itself.
    """
    runtime: Runtime[None] = Runtime(heartbeat=progress.touch, store=store)
    given = {_RUNTIME_KEY: runtime, _OBSERVER_KEY: lambda _: progress.touch()}
    return {
        **config,
        "callbacks": [_EveryEvent(progress)],
        "configurable": {**config.get("configurable", {}), **given},
    }


class _EveryEvent(BaseCallbackHandler):
    """Takes any event of a node, a tool or a model for progress."""

    # Else each event would take a thread.
    run_inline = True

    def __init__(self, progress: NodeProgress) -> None:
        self._progress = progress

    def _touch(self, *_: object, **__: object) -> None:
        self._progress.touch()

    on_chain_start = on_chain_end = on_chain_error = _touch
    on_tool_start = on_tool_end = on_tool_error = _touch
    on_chat_model_start = on_llm_start = on_llm_new_token = on_llm_end = on_llm_error = _touch
    on_stream_event = _touch
    on_retriever_start = on_retriever_end = on_retriever_error = _touch
    on_agent_action = on_agent_finish = _touch
    on_text = on_retry = on_custom_event = _touch
