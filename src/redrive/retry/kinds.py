"""What a failure is (`Kind`), why a run ended as it did (`Reason`), and one judged failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Failure", "Kind", "Reason"]


class Kind(StrEnum):
    """What a failure is; decides whether trying again can help."""

    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    PERMANENT = "permanent"
    POISON = "poison"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a run ended without success: a closed list, documented in docs/reason-codes.md."""

    CHECKPOINT_GONE = "checkpoint_gone"
    CODEC_FAILED = "codec_failed"
    CRASHED = "crashed"
    DEADLINE = "deadline"
    ERROR_HANDLER_FAILED = "error_handler_failed"
    EXPIRED = "expired"
    EXPIRED_RESTING = "expired_resting"
    GRAPH_CHANGED = "graph_changed"
    GRAPH_FAILED = "graph_failed"
    INTERRUPT = "interrupt"
    NOT_ALLOWED = "not_allowed"
    OTHER_INPUT = "other_input"
    PERMANENT = "permanent"
    RESULT_NOT_JSON = "result_not_json"
    RESULT_REFUSED = "result_refused"
    RESULT_TOO_LARGE = "result_too_large"
    RETRIES_EXHAUSTED = "retries_exhausted"
    STUCK = "stuck"
    THREAD_MOVED_ON = "thread_moved_on"
    THREAD_OF_ANOTHER = "thread_of_another"
    UNKNOWN_WORKFLOW = "unknown_workflow"
    UNREADABLE = "unreadable"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class Failure:
    """One exception, judged.

    `retry_after` counts seconds, as the other side asked; `why` is for people; `rule` names the
    line of the tables that decided.
    """

    kind: Kind
    retry_after: float | None = None
    why: str = ""
    rule: str = ""
