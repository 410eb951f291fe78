"""A witness of a resume: which nodes ran, and what should not be so.

It looks at the nodes of the graph itself; inside of a subgraph LangGraph resumes by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

__all__ = ["Witness"]

_INSIDE = "|"


class Witness(BaseCallbackHandler):
    """Sees which nodes run after a resume, and says what should not be so.

    Args:
        snapshot: Where the thread stood.
        finished: The ids of tasks of its next step whose results are stored already.
    """

    # Else each event would take a thread.
    run_inline = True

    def __init__(self, snapshot: StateSnapshot, finished: frozenset[str]) -> None:
        self._step = int((snapshot.metadata or {}).get("step", -1))
        self._finished = finished
        self._owed = {
            task.id: task.name
            for task in snapshot.tasks
            if task.id not in finished and not task.interrupts
        }
        self._again: set[str] = set()

    def sees(self, config: RunnableConfig) -> RunnableConfig:
        """Return the config of a run that this witness watches."""
        others = config.get("callbacks") or []
        assert isinstance(others, list)  # noqa: S101 - the configs of attempts are made by us
        return {**config, "callbacks": [*others, self]}

    def on_chain_start(
        self,
        serialized: Mapping[str, Any],
        inputs: object,
        *,
        metadata: Mapping[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Note a node; what runs inside of it bears its name and counts as the same."""
        del serialized, inputs, kwargs
        place = str((metadata or {}).get("langgraph_checkpoint_ns", ""))
        if metadata is None or not place or _INSIDE in place:
            return
        node, _, task = place.rpartition(":")
        if metadata["langgraph_step"] <= self._step or task in self._finished:
            self._again.add(node)
        self._owed.pop(task, None)

    def complaints(self, *, ended: bool) -> tuple[str, ...]:
        """Return what does not hold: a finished node ran again, or what had failed did not run.

        Args:
            ended: Whether the run came to its end: else what has not run yet may still.
        """
        again = [f"node {node!r} had finished and ran again" for node in sorted(self._again)]
        owed = sorted(self._owed.values()) if ended else ()
        return (*again, *(f"node {node!r} had not finished and did not run" for node in owed))
