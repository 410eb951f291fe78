"""LangGraph: which graph runs for an event, how it runs and resumes, where it keeps its state.

What is imported here needs no LangGraph; the other names are imported when they are first asked
for, and say which extra to install where LangGraph is missing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from redrive.errors import MissingExtraError
from redrive.graphs.attempt_ends import Drained, Ended, Failed, GraphVersion, Position, RunEnd
from redrive.graphs.current import remaining_time
from redrive.graphs.graph_settings import (
    CheckpointSettings,
    GraphSettings,
    ThreadSettings,
    TimeoutSettings,
)
from redrive.graphs.lease import Lease
from redrive.graphs.lifespan import lifespan_value
from redrive.graphs.lingering_work import LingeringWork
from redrive.graphs.timeouts import TimeLimits

if TYPE_CHECKING:
    from redrive.graphs.checkpoint_store import Checkpoints
    from redrive.graphs.guard import GuardedSaver
    from redrive.graphs.json_results import GraphFailed
    from redrive.graphs.node_retry import retry_policy
    from redrive.graphs.processor import DrainControl, WorkflowProcessor
    from redrive.graphs.registry import GraphRegistry, LoadedGraph

__all__ = [
    "CheckpointSettings",
    "Checkpoints",
    "DrainControl",
    "Drained",
    "Ended",
    "Failed",
    "GraphFailed",
    "GraphRegistry",
    "GraphSettings",
    "GraphVersion",
    "GuardedSaver",
    "Lease",
    "LingeringWork",
    "LoadedGraph",
    "Position",
    "RunEnd",
    "ThreadSettings",
    "TimeLimits",
    "TimeoutSettings",
    "WorkflowProcessor",
    "lifespan_value",
    "remaining_time",
    "retry_policy",
]

_WHERE = {
    "Checkpoints": "checkpoint_store",
    "DrainControl": "processor",
    "GraphFailed": "json_results",
    "GraphRegistry": "registry",
    "GuardedSaver": "guard",
    "LoadedGraph": "registry",
    "WorkflowProcessor": "processor",
    "retry_policy": "node_retry",
}
_FROM_THE_EXTRA = ("langgraph", "langchain_core", "aiosqlite", "sqlite_vec")


if not TYPE_CHECKING:  # else a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in _FROM_THE_EXTRA:
                raise MissingExtraError(module="langgraph", extra="worker") from error
            raise
