"""The answer to an event that was run once, without Kafka. A worker's come from its consumer."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from redrive.events import ErrorInfo, ResultStatus, RunInfo, WorkflowEvent, WorkflowResultEvent
from redrive.graphs.attempt_ends import Drained, Ended, Failed, RunEnd
from redrive.retry.classifier import UNANSWERED, Classifier, reason_of
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.telemetry.redactor import BUILT_IN

__all__ = ["answer"]

_MOST_CHARS = 2_000


def answer(
    event: WorkflowEvent,
    end: RunEnd,
    *,
    started_at: datetime,
    finished_at: datetime,
    worker: str,
    classifier: Classifier | None = None,
    silent: bool = False,
) -> WorkflowResultEvent:
    """Return the result record of one attempt, as if no other would follow.

    With `silent`, what was raised is told by its type, and asked for nothing.
    """
    status, result, error, info = _told(end, classifier or Classifier(), silent=silent)
    return WorkflowResultEvent(
        correlation_id=event.event_id,
        workflow_id=event.workflow_id,
        workflow_run_id=event.workflow_run_id,
        result=result,
        status=status,
        timestamp=finished_at,
        error=error,
        error_info=info,
        run=RunInfo(
            attempts=1,
            started_at=started_at,
            finished_at=finished_at,
            resumed=False if isinstance(end, Drained) else end.resumed,
            redrive_count=0,
            worker=worker,
        ),
    )


def _told(
    end: RunEnd, classifier: Classifier, *, silent: bool
) -> tuple[ResultStatus, object, str | None, ErrorInfo | None]:
    match end:
        case Ended(reason=None):
            return ResultStatus.SUCCESS, end.result, None, None
        case Ended():
            said = _said(end)
            return (
                ResultStatus.FAILURE,
                end.result,
                None if end.error is None else said.message,
                said,
            )
        case Failed():
            failure = UNANSWERED if silent else classifier.classify(end.error)
            raised = _raised(end, failure, silent=silent)
            return ResultStatus.ERROR, None, _text(end.error, raised.message), raised
        case Drained():
            raise RuntimeError("a run was drained that nobody could have asked to drain")
        case _:
            assert_never(end)


def _said(end: Ended) -> ErrorInfo:
    return ErrorInfo(
        kind=Kind.PERMANENT,
        # Nothing was raised; a worker's answer says the same.
        type="",
        message=_masked(end.error or ""),
        reason=end.reason or Reason.GRAPH_FAILED,
        attempts=1,
        exhausted=False,
    )


def _raised(end: Failed, failure: Failure, *, silent: bool) -> ErrorInfo:
    final = failure.kind in (Kind.PERMANENT, Kind.POISON, Kind.CANCELLED)
    kind = type(end.error)
    return ErrorInfo(
        kind=failure.kind,
        type=f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        message="" if silent else _masked(_told_by(end.error)),
        reason=(None if silent else reason_of(end.error))
        or (Reason.PERMANENT if final else Reason.RETRIES_EXHAUSTED),
        node=end.node,
        attempts=1,
        exhausted=not final,
        retry_after_s=failure.retry_after,
    )


def _text(error: BaseException, message: str) -> str:
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _told_by(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - someone else's `__str__`: the type says what it was
        return ""


def _masked(text: str) -> str:
    return BUILT_IN.excerpt(text, _MOST_CHARS)
