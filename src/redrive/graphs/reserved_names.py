"""Names in a run's config that belong to LangGraph or to redrive: no event may set them."""

from __future__ import annotations

__all__ = ["TRACE_NAMES", "is_reserved"]

TRACE_NAMES = (
    "event_id",
    "workflow_id",
    "workflow_run_id",
    "attempt",
    "dag_id",
    "airflow_task_id",
)
"""What a run's metadata tells traces and callbacks; never stored with checkpoints."""

_RESERVED = frozenset(
    {
        # Where a run is stored, and which run it is taken for.
        "thread_id",
        "checkpoint_id",
        "checkpoint_ns",
        "checkpoint_map",
        "run_id",
        "task_id",
        # What LangGraph Server knows of who asks.
        "assistant_id",
        "graph_id",
        "graph_version",
    }
)
_PREFIXES = ("__", "langgraph_", "redrive_")


def is_reserved(name: str) -> bool:
    """Say whether a name of `configurable` or `metadata` is LangGraph's or ours."""
    return name in _RESERVED or name.startswith(_PREFIXES)
