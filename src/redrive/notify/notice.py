"""What notifications are about: a run that was given up, or trouble of a worker itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from redrive.retry.kinds import Kind, Reason
from redrive.telemetry.recent_groups import UNKNOWN

__all__ = ["Alarm", "LetterNotice", "NoticeCause", "Trouble"]


@dataclass(frozen=True, slots=True)
class NoticeCause:
    """What rules look at, and what failures that are told together share."""

    workflow: str
    kind: str
    reason: str
    fingerprint: str

    @property
    def group(self) -> str:
        """The workflow, among whose causes this one is kept; all that no graph serves are one."""
        known = self.workflow and self.reason != Reason.UNKNOWN_WORKFLOW
        return self.workflow if known else UNKNOWN


@dataclass(frozen=True, slots=True)
class LetterNotice:
    """One dead letter that is stored: what failed, where, and why. It holds no payload.

    Attributes:
        dlq_id: The letter's id, for `redrive dlq show`.
        at: When the letter was stored, in UTC.
        kind: What the failure is.
        reason: Why the run was given up.
        worker: The name of the worker that gave it up.
        event_id: The event's id; None where the event could not be read.
        workflow_id: Which graph was to run; None as above.
        node: The node that failed; None where none ran.
        fingerprint: What equal failures share.
        error_type: The error's class.
        message: The error's text; secrets are masked.
        attempts: How often the run was tried.
        redrive_count: How often its event had been driven again before.
        graph_version: The version of the graph that ran; None where none ran.
    """

    dlq_id: str
    at: datetime
    kind: Kind
    reason: Reason
    worker: str
    event_id: str | None = None
    workflow_id: str | None = None
    node: str | None = None
    fingerprint: str | None = None
    error_type: str = ""
    message: str = ""
    attempts: int = 0
    redrive_count: int = 0
    graph_version: str | None = None

    @property
    def cause(self) -> NoticeCause:
        """What rules look at; without a fingerprint, kind, type, node and workflow are one."""
        workflow = self.workflow_id or ""
        like = self.fingerprint
        if like is None:
            like = f"{self.kind}/{self.error_type}/{self.node or ''}/{workflow}"
        return NoticeCause(workflow, self.kind.value, self.reason.value, like)


class Trouble(StrEnum):
    """What besides a cause of failures people are told of."""

    MANY_LETTERS = "many_letters"
    SPOOLED = "spooled"
    NOT_SPOOLED = "not_spooled"
    CRASH_LOOP = "crash_loop"


@dataclass(frozen=True, slots=True)
class Alarm:
    """Trouble of one worker; `detail` says more in a few words, with secrets masked."""

    trouble: Trouble
    at: datetime
    worker: str
    detail: str = ""
