"""The event that an Airflow task sends: who it is, what it asks for, until when it is wanted."""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any, Protocol

from redrive.events import EventHeaders, Payload, WorkflowEvent

__all__ = ["EventExtras", "Request", "TaskInstance", "event_id_of", "request_of"]

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
    thread: str | None = None
    extra_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def deadline_ms(self) -> int:
        """The deadline as it travels: epoch milliseconds."""
        return round(self.deadline.timestamp() * 1000)

    @property
    def headers(self) -> EventHeaders:
        """Our headers on the event's record; `extra_headers` are the task's own."""
        return EventHeaders(thread=self.thread, deadline=self.deadline_ms)


@dataclass(frozen=True, slots=True)
class EventExtras:
    """What a task sends beside the graph's input; None for nothing.

    Args:
        thread: The LangGraph thread that the run shares with others of this name.
        metadata: More of the event's `metadata`; `langgraph` in it reaches the run.
        headers: Headers of the record, for whoever reads it.
        config: The event's `payload.config`: the graph's settings say what of it passes.
    """

    thread: str | None = None
    metadata: object = None
    headers: object = None
    config: object = None


NOTHING_BESIDE = EventExtras()

_BECOMES = {
    "data": "it becomes the graph's input",
    "config": "it becomes the event's payload.config",
    "metadata": "it becomes the event's metadata",
    "headers": "they become the record's headers",
}


def event_id_of(task: TaskInstance, secret: bytes | None = None) -> str:
    """Return the id of this task's event: the same for every try of the task.

    Whoever knows the task's names knows the id too, unless there is a secret: then it is the first
    122 free bits of an HMAC-SHA256, in the form of a UUID of version 8 (RFC 9562, 5.8).
    """
    # A list, not a joined text: no two tasks share an id, whatever signs their names hold.
    name = json.dumps([task.dag_id, task.run_id, task.task_id, _map_index(task)])
    if secret is None:
        return str(uuid.uuid5(_EVENTS, name))
    digest = bytearray(hmac.digest(secret, _EVENTS.bytes + name.encode(), "sha256")[:16])
    digest[6] = digest[6] & 0x0F | 0x80  # the version
    digest[8] = digest[8] & 0x3F | 0x80  # the variant
    return str(uuid.UUID(bytes=bytes(digest)))


def request_of(
    task: TaskInstance,
    *,
    workflow_id: str,
    data: object,
    timeout: timedelta,
    now: datetime,
    beside: EventExtras = NOTHING_BESIDE,
    id_secret: bytes | None = None,
) -> Request:
    """Return the request of one try; `id_secret` is `event_id_of`'s.

    Raises:
        TypeError: `data`, or what stands beside it, is not a dict with text as keys.
        ValueError: The thread has no name, or `metadata` sets what the task says of itself.
    """
    payload = {"data": _object(data, "data", task)}
    if beside.config is not None:
        payload["config"] = _object(beside.config, "config", task)
    if beside.thread is not None and not beside.thread.strip():
        raise ValueError(
            f"thread of task {task.task_id!r} is empty: give it a name, or leave it out"
        )
    ours = {
        "version": version("redrive"),
        "dag_id": task.dag_id,
        "task_id": task.task_id,
        "map_index": _map_index(task),
        "try_number": task.try_number,
    }
    metadata = _object(beside.metadata or {}, "metadata", task)
    if taken := sorted(ours.keys() & metadata.keys()):
        raise ValueError(
            f"metadata of task {task.task_id!r} sets {taken}, which the task says of itself: "
            "choose other names"
        )
    event = WorkflowEvent(
        event_id=event_id_of(task, id_secret),
        timestamp=now,
        source="airflow",
        workflow_id=workflow_id,
        workflow_run_id=task.run_id,
        payload=Payload.model_validate(payload),
        metadata={**metadata, **ours},
    )
    headers = _object(beside.headers or {}, "headers", task)
    return Request(event, now + timeout, thread=beside.thread, extra_headers=headers)


def _object(given: object, name: str, task: TaskInstance) -> dict[str, Any]:
    if isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
        return dict(given)
    raise TypeError(
        f"{name} of task {task.task_id!r} must be a dict with text as keys, not "
        f"{type(given).__name__}: {_BECOMES[name]}"
    )


def _map_index(task: TaskInstance) -> int:
    # A task that is not mapped has -1, or nothing.
    return -1 if task.map_index is None else task.map_index
