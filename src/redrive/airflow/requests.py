"""The event that an Airflow task sends: who it is, what it asks for, until when it is wanted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Protocol

from redrive.events import EventHeaders, Payload, WorkflowEvent

__all__ = ["Request", "TaskInstance", "event_id_of", "request_of"]

_EVENTS = uuid.UUID("9c0c3c36-0d7a-5f0e-8a55-54f7e5b0a1d2")


class TaskInstance(Protocol):
    """What we need to know of the task instance that asks."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None
    try_number: int


@dataclass(frozen=True, slots=True)
class Request:
    """One event, ready to be published, and until when its answer is wanted."""

    event: WorkflowEvent
    deadline: datetime

    @property
    def deadline_ms(self) -> int:
        """The deadline as it travels: epoch milliseconds."""
        return round(self.deadline.timestamp() * 1000)

    @property
    def headers(self) -> EventHeaders:
        """What the event's record carries beside it."""
        return EventHeaders(deadline=self.deadline_ms)


def event_id_of(task: TaskInstance) -> str:
    """Return the id of this task's event: the same for every try of the task."""
    # A list, not a joined text: no two tasks share an id, whatever signs their names hold.
    name = [task.dag_id, task.run_id, task.task_id, _map_index(task)]
    return str(uuid.uuid5(_EVENTS, json.dumps(name)))


def request_of(
    task: TaskInstance,
    *,
    workflow_id: str,
    data: object,
    timeout: timedelta,
    now: datetime,
) -> Request:
    """Return the request of one try.

    Raises:
        TypeError: `data` is not a dict with text as keys.
    """
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise TypeError(
            f"data of task {task.task_id!r} must be a dict with text as keys, not "
            f"{type(data).__name__}: it becomes the graph's input"
        )
    event = WorkflowEvent(
        event_id=event_id_of(task),
        timestamp=now,
        source="airflow",
        workflow_id=workflow_id,
        workflow_run_id=task.run_id,
        payload=Payload(data=dict(data)),
        metadata={
            "version": version("redrive"),
            "dag_id": task.dag_id,
            "task_id": task.task_id,
            "map_index": _map_index(task),
            "try_number": task.try_number,
        },
    )
    return Request(event=event, deadline=now + timeout)


def _map_index(task: TaskInstance) -> int:
    # A task that is not mapped has -1, or nothing.
    return -1 if task.map_index is None else task.map_index
