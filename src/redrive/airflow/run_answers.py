"""What a waiting task hears, as plain JSON, and what it means for the task. No Airflow in here.

`heard` and `not_heard` are said by whoever waits (the trigger, or the task itself); `judge` is the
task's part, and the one place that decides whether a further try can help.

A result goes through the triggerer as text: a whole number that its messages cannot carry would end
the process, with all that waits in it, and some keys mean something to Airflow's serialisers. [P7]
What the task itself could not hand on is refused in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ConfigDict

from redrive.errors import RecordError
from redrive.events import ResultStatus, WorkflowResultEvent
from redrive.payloads import CLEAR, Payloads
from redrive.retry.kinds import Kind, Reason
from redrive.sealed_records import opened_or_told, seal_of_result

__all__ = ["Answer", "FailedRun", "SucceededRun", "heard", "judge", "not_heard"]

Answer = dict[str, object]

_TIMEOUT = "timeout"
LEAST_INT, LARGEST_INT = -(2**63), 2**64 - 1
"""What the messages between Airflow's processes carry (msgpack)."""
# Airflow's serialisers refuse these keys, and take a pair of keys for a value of theirs.
_REFUSED_KEYS = frozenset({"__classname__", "__id__"})
_OLD_PAIR = frozenset({"__type", "__var"})
_MAX_PATH_CHARS = 200
_KEYS_OF_TASKS = (
    "Tasks take the codec and its keys from REDRIVE_SECURITY__CODEC and "
    "REDRIVE_SECURITY__ENCRYPTION_KEYS"
)

# Kinds that can end otherwise next time. The worker has used up its own retries by then, so this
# matters only to a task that was given retries of its own.
_WORTH_ANOTHER_TRY = frozenset({Kind.TRANSIENT, Kind.RATE_LIMITED, Kind.TIMEOUT, Kind.UNKNOWN})


@dataclass(frozen=True, slots=True)
class SucceededRun:
    """The graph ended; this is its result."""

    result: object


@dataclass(frozen=True, slots=True)
class FailedRun:
    """The run did not succeed; `final` says that no further try mends that."""

    text: str
    final: bool
    event_id: str
    kind: str | None = None
    reason: str | None = None
    node: str | None = None
    attempts: int | None = None
    dlq_id: str | None = None


class _AsItWasSaid(WorkflowResultEvent):
    """A result as text that keeps numbers which are none: by default they would become null."""

    model_config = ConfigDict(ser_json_inf_nan="constants")


def heard(result: WorkflowResultEvent) -> Answer:
    """Return the answer that a result is."""
    return {
        "status": result.status.value,
        "event_id": result.correlation_id,
        "record": _AsItWasSaid.model_construct(**dict(result)).model_dump_json(),
    }


def not_heard(event_id: str, why: str) -> Answer:
    """Return the answer to an event whose result did not come in time."""
    return {"status": _TIMEOUT, "event_id": event_id, "error": why}


def judge(answer: Mapping[str, object], payloads: Payloads = CLEAR) -> SucceededRun | FailedRun:
    """Return what the answer means for the task; what is encrypted is decoded by `payloads`.

    Raises:
        RecordError: It holds no result.
    """
    event_id = str(answer.get("event_id"))
    if answer.get("status") == _TIMEOUT:
        return FailedRun(
            text=f"{answer.get('error')} (reason={Reason.DEADLINE.value}). Is a worker running, "
            "and is `timeout` long enough? The run itself ends too: its deadline travelled with "
            "the event",
            final=False,
            event_id=event_id,
            kind=Kind.TIMEOUT.value,
            reason=Reason.DEADLINE.value,
        )
    result, closed = opened_or_told(_record(answer), payloads)
    match result.status:
        case ResultStatus.SUCCESS if closed is not None:
            text = (
                f"workflow {result.workflow_id!r} succeeded, but its result cannot be decoded: "
                f"{closed} (event_id={event_id}). {_KEYS_OF_TASKS}"
            )
            return FailedRun(text, final=True, event_id=event_id)
        case ResultStatus.SUCCESS:
            problem = next(_problems(result.result), None)
            if problem is None:
                return SucceededRun(result.result)
            text = (
                f"workflow {result.workflow_id!r} succeeded, but Airflow cannot store its result: "
                f"{problem}. It is on the results topic (event_id={event_id}): let the graph's "
                "output write such values as text"
            )
            return FailedRun(text, final=True, event_id=event_id)
        case ResultStatus.FAILURE:
            return _failed(result, event_id, said="reported that it failed", final=True)
        case ResultStatus.ERROR:
            kind = result.error_info.kind if result.error_info else Kind.UNKNOWN
            final = kind not in _WORTH_ANOTHER_TRY
            return _failed(result, event_id, said="was given up", final=final)


def _record(answer: Mapping[str, object]) -> WorkflowResultEvent:
    record = answer.get("record")
    try:
        if isinstance(record, str):
            return WorkflowResultEvent.from_bytes(record.encode())
        # A trigger of the version before.
        return WorkflowResultEvent.model_validate(record)
    except (RecordError, ValueError) as error:
        raise RecordError(f"the trigger's event holds no result: {error}") from error


def _problems(result: object) -> Iterator[str]:
    """Yield, in words, what in a result Airflow cannot hand on as it is."""
    waiting: list[tuple[str, object]] = [("result", result)]
    while waiting:
        path, value = waiting.pop()
        match value:
            case bool():
                pass
            case int() if not LEAST_INT <= value <= LARGEST_INT:
                yield f"{path} is an integer of more than 64 bits"
            case float() if not math.isfinite(value):
                yield f"{path} is {value}, which is no JSON"
            case dict():
                keys = value.keys()
                reserved = sorted(keys & _REFUSED_KEYS)
                if keys >= _OLD_PAIR:
                    reserved += sorted(_OLD_PAIR)
                if reserved:
                    yield f"{path} has keys that Airflow reserves: {', '.join(reserved)}"
                waiting += [(_path(path, key), inner) for key, inner in value.items()]
            case list():
                waiting += [(_path(path, number), inner) for number, inner in enumerate(value)]
            case _:
                pass


def _path(path: str, step: object) -> str:
    return f"{path}.{step}"[:_MAX_PATH_CHARS]


def _failed(result: WorkflowResultEvent, event_id: str, *, said: str, final: bool) -> FailedRun:
    info = result.error_info
    kind, reason = (info.kind.value, info.reason.value) if info else (None, None)
    node, dlq_id = (info.node, info.dlq_id) if info else (None, None)
    attempts = _attempts(result)
    facts = {
        "kind": kind,
        "reason": reason,
        "node": node,
        "attempts": attempts,
        "dlq_id": dlq_id,
        "event_id": event_id,
    }
    shown = ", ".join(f"{name}={fact}" for name, fact in facts.items() if fact is not None)
    letter = f". Show the letter: redrive dlq show {dlq_id}" if dlq_id else ""
    return FailedRun(
        text=f"workflow {result.workflow_id!r} {said}: {_why(result)} ({shown}){letter}",
        final=final,
        event_id=event_id,
        kind=kind,
        reason=reason,
        node=node,
        attempts=attempts,
        dlq_id=dlq_id,
    )


def _why(result: WorkflowResultEvent) -> str:
    if seal_of_result(result) is not None:
        kind = "an error" if result.error_info is None else result.error_info.type
        return f"{kind}, whose text is not decoded. {_KEYS_OF_TASKS}"
    if result.error_info is not None:
        return f"{result.error_info.type}: {result.error_info.message}"
    return result.error or "no error text"


def _attempts(result: WorkflowResultEvent) -> int | None:
    if result.error_info is not None:
        return result.error_info.attempts
    return result.run.attempts if result.run else None
