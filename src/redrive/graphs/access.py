"""What of threads an event may have: which are its workflow's, and which state is its run's own.

Whoever writes events knows names and ids of others. So each checkpoint says who stored it: the run,
the workflow, and the digest of what its event asked for. They lie in its metadata, which is read
with it anyway. Checkpoints of versions before say the run alone: nothing more is asked of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from redrive.errors import OtherInputError, ThreadOfAnotherError
from redrive.thread_names import is_own_thread, owner_in, owner_text

__all__ = ["INPUT_KEY", "OWNER_KEY", "RUN_KEY", "ThreadAccess", "last_of_a_run"]

RUN_KEY = "redrive_run"
"""Metadata of each checkpoint: the run that stored it, as `<event_id>/<generation>`."""
OWNER_KEY = "redrive_owner"
"""The workflow of that run, as `owner_text` has it."""
INPUT_KEY = "redrive_input"
"""The digest of what its event asked for, see `redrive.events.said_by`."""

# LangGraph's own names for a state that was edited from outside of a run.
_EDITS = frozenset({"fork", "update"})
_MOST_EDITS = 100


@dataclass(frozen=True, slots=True)
class ThreadAccess:
    """What one event says of itself, to be compared with what lies on its thread.

    Args:
        event_id: The event's.
        generation: Counts restarts: each begins anew.
        workflow: The event's workflow.
        thread_id: The thread.
        said: The digest of what the event asks for.
        shared: Whether threads that producers name are open to all workflows.
    """

    event_id: str
    generation: int
    workflow: str
    thread_id: str
    said: str
    shared: bool = False

    @property
    def run(self) -> str:
        """The run, by its name in metadata."""
        return f"{self.event_id}/{self.generation}"

    @property
    def is_alone(self) -> bool:
        """Whether the thread is the event's own, and not one that a producer named."""
        return is_own_thread(self.thread_id, self.event_id)

    @property
    def metadata(self) -> dict[str, str]:
        """What is stored with each checkpoint of the run."""
        return {RUN_KEY: self.run, OWNER_KEY: owner_text(self.workflow), INPUT_KEY: self.said}

    def is_of(self, found: CheckpointTuple) -> bool:
        """Tell an earlier attempt of this run from another run's work on a shared thread.

        Without the mark (the state was edited from outside), the thread's name decides.
        """
        mark = found.metadata.get(RUN_KEY)
        return self.is_alone if mark is None else bool(mark == self.run)

    def check(self, stored: CheckpointTuple) -> None:
        """Check that the event may go on from here, or be answered by it.

        Args:
            stored: The thread's last checkpoint that a run has stored.

        Raises:
            ThreadOfAnotherError: The thread belongs to another workflow.
            OtherInputError: It holds the run of another event with this event's id.
        """
        metadata: dict[str, Any] = dict(stored.metadata)
        owner, said = owner_in(metadata.get(OWNER_KEY)), metadata.get(INPUT_KEY)
        if not (self.is_alone or self.shared) and owner not in (None, self.workflow):
            raise ThreadOfAnotherError(thread_id=self.thread_id, workflow=self.workflow)
        if self.is_of(stored) and said not in (None, self.said):
            raise OtherInputError(event_id=self.event_id, workflow=self.workflow)


async def last_of_a_run(saver: BaseCheckpointSaver[Any], found: CheckpointTuple) -> CheckpointTuple:
    """Return the last checkpoint that a run has stored: what edits it from outside is no owner."""
    stored: CheckpointTuple | None = found
    for _ in range(_MOST_EDITS):
        if stored is None or not _is_edit(stored) or stored.parent_config is None:
            break
        stored = await saver.aget_tuple(stored.parent_config)
    return stored or found


def _is_edit(found: CheckpointTuple) -> bool:
    return RUN_KEY not in found.metadata and found.metadata.get("source") in _EDITS
