"""`idempotency_key`: what names one task of one run, however often it is executed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

from langgraph.config import get_config
from langgraph.runtime import Runtime

from redrive.errors import NotInNodeError, PermanentError
from redrive.graphs.current import CURRENT

__all__ = ["idempotency_key"]

_KEYS = uuid.UUID("5b7a3a0e-6f0f-5a54-9d8c-3e0a2b6f4c11")
_INSIDE = "|"
# LangGraph's own names. `execution_info.task_id` would not do: an error handler has that of the
# node that failed.
_TASK_ID, _RUNTIME = "__pregel_task_id", "__pregel_runtime"


def idempotency_key(suffix: str = "") -> str:
    """Return a key for a side effect of the calling node, as a UUID.

    It is equal each time that this task of this run is executed: by a retry, in place or by the
    worker, after a death of the worker, and when the run's letter is redriven with `resume`. It
    differs for two nodes, two branches of a `Send`, two rounds of a loop, and two runs. A redrive
    with `restart` is a run from the beginning, with keys of its own. A retry in place of a node
    that is a subgraph, or calls one, is one too for what is inside: LangGraph begins the subgraph
    anew. There, give the subgraph's own nodes the policy.

    Args:
        suffix: Tells apart what one task does: with two calls in a node, or two tools that run in
            one (`tool_call_id`), give each its own.

    Raises:
        NotInNodeError: No node of a redrive run calls.
        PermanentError: The graph, or the subgraph around the node, keeps no checkpoints. Each
            attempt then runs it anew, perhaps on another way and with other values, and no key
            could say which of its tasks are the same.
    """
    running = CURRENT.get()
    runtime, task_id = _task()
    if running is None or runtime is None or task_id is None:
        raise NotInNodeError("redrive.idempotency_key()")
    info, keeps = runtime.execution_info, running.keeps
    if (
        keeps is None
        or info is None
        or not any(keeps(around, info.checkpoint_id) for around in _around(info.checkpoint_ns))
    ):
        raise PermanentError(
            "redrive.idempotency_key() needs checkpoints, and none are kept around this node: set "
            "checkpoints.url, let a subgraph use its parent's checkpointer, or make a key of your "
            "own from redrive.current().event_id and what the node is about to do"
        )
    return str(uuid.uuid5(_KEYS, json.dumps([task_id, suffix])))


def _task() -> tuple[Runtime[None] | None, str | None]:
    try:
        configurable = get_config().get("configurable", {})
    except RuntimeError:  # LangGraph's way to say that no node runs here
        return None, None
    runtime, task_id = configurable.get(_RUNTIME), configurable.get(_TASK_ID)
    return (
        runtime if isinstance(runtime, Runtime) else None,
        task_id if isinstance(task_id, str) else None,
    )


def _around(of_task: str) -> Iterator[str]:
    """Give the namespaces around a task, inmost first: `a:1` and the root's for `a:1|b:2`.

    A function with `@task` bears the name of its caller's task, though both run in one graph.
    """
    while of_task:
        of_task = of_task.rpartition(_INSIDE)[0]
        yield of_task
