"""The front door of redrive: the names to build on, each imported when it is first asked for.

So `import redrive` is quick and needs none of Kafka, LangGraph or Airflow. Airflow's side is
`redrive.airflow`; the decorator `@retry` is `redrive.retry.retry`, since here `retry` is the
package of that name; `redrive.testing` is for tests.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from redrive.errors import (
    MissingExtraError,
    PermanentError,
    RateLimitedError,
    RedriveError,
    TransientError,
)

if TYPE_CHECKING:
    from redrive.dead_letter.queue import DeadLetterQueue
    from redrive.dead_letter.record import DeadLetter
    from redrive.events import WorkflowEvent, WorkflowResultEvent
    from redrive.graphs.current import CurrentAttempt, current, remaining_time
    from redrive.graphs.idempotency import idempotency_key
    from redrive.graphs.json_results import GraphFailed
    from redrive.graphs.processor import WorkflowProcessor
    from redrive.kafka.result_producer import ResultProducer
    from redrive.retry.attempts import attempts
    from redrive.retry.call import retry_async
    from redrive.retry.classifier import classify, is_transient_error
    from redrive.retry.kinds import Failure, Kind, Reason
    from redrive.retry.retry_config import RetryConfig
    from redrive.settings import Settings, load_settings
    from redrive.wiring import LangGraphKafkaConsumer

__all__ = [
    "CurrentAttempt",
    "DeadLetter",
    "DeadLetterQueue",
    "Failure",
    "GraphFailed",
    "Kind",
    "LangGraphKafkaConsumer",
    "PermanentError",
    "RateLimitedError",
    "Reason",
    "RedriveError",
    "ResultProducer",
    "RetryConfig",
    "Settings",
    "TransientError",
    "WorkflowEvent",
    "WorkflowProcessor",
    "WorkflowResultEvent",
    "attempts",
    "classify",
    "current",
    "idempotency_key",
    "is_transient_error",
    "load_settings",
    "remaining_time",
    "retry_async",
]

_HOMES = {
    "CurrentAttempt": "graphs.current",
    "DeadLetter": "dead_letter.record",
    "DeadLetterQueue": "dead_letter.queue",
    "Failure": "retry.kinds",
    "GraphFailed": "graphs.json_results",
    "Kind": "retry.kinds",
    "LangGraphKafkaConsumer": "wiring",
    "Reason": "retry.kinds",
    "ResultProducer": "kafka.result_producer",
    "RetryConfig": "retry.retry_config",
    "Settings": "settings",
    "WorkflowEvent": "events",
    "WorkflowProcessor": "graphs.processor",
    "WorkflowResultEvent": "events",
    "attempts": "retry.attempts",
    "classify": "retry.classifier",
    "current": "graphs.current",
    "idempotency_key": "graphs.idempotency",
    "is_transient_error": "retry.classifier",
    "load_settings": "settings",
    "remaining_time": "graphs.current",
    "retry_async": "retry.call",
}
_OF_THE_EXTRA_WORKER = ("langgraph", "langchain_core", "aiosqlite", "sqlite_vec")


if not TYPE_CHECKING:  # else a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in _OF_THE_EXTRA_WORKER:
                raise MissingExtraError(module=missing, extra="worker") from error
            raise


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
