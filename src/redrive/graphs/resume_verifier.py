"""A witness of a resume: which tasks ran, and what should not be so.

It looks at the tasks of the thread's own graph; inside of a subgraph LangGraph resumes by itself.
It is told of them by LangGraph's loop and by what runs a task, and not by callbacks: those also
come from graphs that a node runs on a thread of their own, and not from a node whose result lies in
LangGraph's cache.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from langgraph.types import StateSnapshot

__all__ = ["ResumeVerifier"]


class ResumeVerifier:
    """Sees which tasks run after a resume, and says what should not be so.

    Args:
        snapshot: Where the thread stood.
        finished: The ids of tasks of its next step whose results are stored already.
    """

    def __init__(self, snapshot: StateSnapshot, finished: frozenset[str]) -> None:
        self._step = int((snapshot.metadata or {}).get("step", -1))
        self._finished = finished
        self._owed = {
            task.id: task.name
            for task in snapshot.tasks
            if task.id not in finished and not task.interrupts
        }
        self._at = self._step
        self._names: Mapping[str, str] = {}
        self._again: set[str] = set()

    def scheduled(self, tasks: Mapping[str, str], *, step: int) -> None:
        """Note what the next step consists of: names by the ids of tasks."""
        self._names, self._at = tasks, step

    def began(self, task_id: str) -> None:
        """Note a task that runs; those of other graphs are none of ours."""
        name = self._names.get(task_id)
        if name is None:
            return
        if self._at <= self._step or task_id in self._finished:
            self._again.add(name)
        self._owed.pop(task_id, None)

    def complaints(self, *, ended: bool, stored: Container[str]) -> tuple[str, ...]:
        """Return what does not hold: a finished node ran again, or what had failed did not run.

        Args:
            ended: Whether the run came to its end: else what has not run yet may still.
            stored: The ids of tasks whose results were stored since. One that did not run to have
                it has it from LangGraph's cache.
        """
        again = [f"node {node!r} had finished and ran again" for node in sorted(self._again)]
        left = sorted(name for task, name in self._owed.items() if task not in stored)
        owed = left if ended else ()
        return (*again, *(f"node {node!r} had not finished and did not run" for node in owed))
