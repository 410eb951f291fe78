"""What LangGraph runs a task with, watched: a task that failed lets its siblings come to their end.

LangGraph cancels the parallel branches of a task that failed, so that they are paid for again. It
runs each task by one function, which tries it again in place, ends it at its own `timeout`, and
takes a cancellation that the node raised itself for a failure: what that function raises is final,
and here the task is held back until those beside it have ended. [P4]

It is the same for all tasks: nodes, also of graphs that nodes call, error handlers, and `@task`
calls of the functional API. What a call raises goes to its caller, who may go on; so it waits for
nobody, and a caller that failed waits for its calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from langgraph.errors import GraphBubbleUp
from langgraph.pregel import _runner
from langgraph.types import PregelExecutableTask

from redrive.errors import FalsyError, NodeExitError
from redrive.graphs.guard import tasks_of
from redrive.graphs.tasks import HANDLER

__all__ = ["watch_tasks"]


def watch_tasks() -> None:
    """Watch the tasks of all runs of this process that are attempts of redrive; others not."""
    for name, watched in (("arun_with_retry", _async), ("run_with_retry", _sync)):
        run = getattr(_runner, name)
        if not hasattr(run, "__wrapped__"):
            setattr(_runner, name, watched(run))


def _async(run: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(run)
    async def watched(task: PregelExecutableTask, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - LangGraph's
        tasks = tasks_of(task.config)
        if tasks is None:
            return await run(task, *args, **named)
        if tasks.verifier is not None:
            tasks.verifier.began(task.id)
        is_call = _is_call(task.path)
        step = tasks.step_of(_node_task_id(task))
        running = tasks.begin(step, handles=_handles(task))
        try:
            return await run(task, *args, **named)
        except GraphBubbleUp:
            raise
        except Exception as error:
            tasks.keep_alive(error)
            if not is_call:
                await tasks.failed(running, node=task.name, error=error)
            _refuse_false(error)
            raise
        except (SystemExit, KeyboardInterrupt) as raised:
            # Not GeneratorExit: so ends a coroutine that is thrown away, and must not wait.
            if not is_call:
                await tasks.failed(running, node=task.name, error=NodeExitError(raised))
            raise
        finally:
            tasks.ended(running)

    return watched


def _sync(run: Callable[..., Any]) -> Callable[..., Any]:
    """Watch what runs a task of a graph that a node calls without `await`.

    Nothing waits there.
    """

    @wraps(run)
    def watched(task: PregelExecutableTask, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - LangGraph's
        tasks = tasks_of(task.config)
        try:
            return run(task, *args, **named)
        except GraphBubbleUp:
            raise
        except Exception as error:
            if tasks is not None:
                tasks.keep_alive(error)
                _refuse_false(error)
            raise

    return watched


def _refuse_false(error: Exception) -> None:
    """Raise another error for one that LangGraph would take for none: it asks `if exception`."""
    try:
        if bool(error):
            return
    except Exception:  # noqa: BLE001 - someone else's `__bool__`
        return
    told = FalsyError(error)
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    raise told from error


def _node_task_id(task: PregelExecutableTask) -> str:
    """Return the id of the node's task: of a handler, or a call, that of the node it is for.

    Its namespace, `node:id|call:id`, lies within that of the task that failed, or called.
    """
    outer = int(_handles(task))
    path: Any = task.path
    while _is_call(path):
        outer, path = outer + 1, path[1]
    if not outer:
        return task.id
    namespace = str(task.config.get("configurable", {}).get("checkpoint_ns", "")).split("|")
    return namespace[-1 - outer].rpartition(":")[2] if outer < len(namespace) else ""


def _handles(task: PregelExecutableTask) -> bool:
    return HANDLER in task.path


def _is_call(path: Any) -> bool:  # noqa: ANN401 - LangGraph's, of any depth
    return len(path) > 1 and path[-1] is True and isinstance(path[1], tuple)
