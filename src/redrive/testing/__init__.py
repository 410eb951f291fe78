"""The public test kit: a real broker, real workers, faults, a judge, and a clock to turn."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redrive.testing.broker import LocalBroker
    from redrive.testing.chaos import Chaos, Report, run_chaos
    from redrive.testing.created_topics import Topics, create_topics
    from redrive.testing.faults import plan
    from redrive.testing.forks import forked_threads
    from redrive.testing.judging import Evidence, Verdict, gather, judge
    from redrive.testing.kafka_env import KafkaEnv, event
    from redrive.testing.load import make_load
    from redrive.testing.manual_clock import ManualClock
    from redrive.testing.proxy import Proxy
    from redrive.testing.reading import committed_offsets, end_offsets, read_topic
    from redrive.testing.stored_letters import dead_letter, store_letters
    from redrive.testing.webhook import Webhook
    from redrive.testing.worker_process import WorkerProcess, wait_until

__all__ = [
    "Chaos",
    "Evidence",
    "KafkaEnv",
    "LocalBroker",
    "ManualClock",
    "Proxy",
    "Report",
    "Topics",
    "Verdict",
    "Webhook",
    "WorkerProcess",
    "committed_offsets",
    "create_topics",
    "dead_letter",
    "end_offsets",
    "event",
    "forked_threads",
    "gather",
    "judge",
    "make_load",
    "plan",
    "read_topic",
    "run_chaos",
    "store_letters",
    "wait_until",
]

_WHERE = {
    "Chaos": "chaos",
    "Evidence": "judging",
    "LocalBroker": "broker",
    "Proxy": "proxy",
    "Report": "chaos",
    "KafkaEnv": "kafka_env",
    "Topics": "created_topics",
    "ManualClock": "manual_clock",
    "Verdict": "judging",
    "Webhook": "webhook",
    "WorkerProcess": "worker_process",
    "committed_offsets": "reading",
    "create_topics": "created_topics",
    "dead_letter": "stored_letters",
    "end_offsets": "reading",
    "event": "kafka_env",
    "forked_threads": "forks",
    "gather": "judging",
    "judge": "judging",
    "make_load": "load",
    "plan": "faults",
    "read_topic": "reading",
    "run_chaos": "chaos",
    "store_letters": "stored_letters",
    "wait_until": "worker_process",
}

if not TYPE_CHECKING:  # else a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
