"""The public test kit: a real broker, real workers, a judge, and a clock to turn."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redrive.testing.broker import LocalBroker
    from redrive.testing.clock import TurnedClock
    from redrive.testing.judging import Evidence, Verdict, gather, judge
    from redrive.testing.letters import dead_letter, store_letters
    from redrive.testing.reading import committed_offsets, end_offsets, read_topic
    from redrive.testing.stage import Stage, event
    from redrive.testing.topics import Topics, create_topics
    from redrive.testing.webhook import Webhook
    from redrive.testing.worker import WorkerProcess, wait_until

__all__ = [
    "Evidence",
    "LocalBroker",
    "Stage",
    "Topics",
    "TurnedClock",
    "Verdict",
    "Webhook",
    "WorkerProcess",
    "committed_offsets",
    "create_topics",
    "dead_letter",
    "end_offsets",
    "event",
    "gather",
    "judge",
    "read_topic",
    "store_letters",
    "wait_until",
]

_WHERE = {
    "Evidence": "judging",
    "LocalBroker": "broker",
    "Stage": "stage",
    "Topics": "topics",
    "TurnedClock": "clock",
    "Verdict": "judging",
    "Webhook": "webhook",
    "WorkerProcess": "worker",
    "committed_offsets": "reading",
    "create_topics": "topics",
    "dead_letter": "letters",
    "end_offsets": "reading",
    "event": "stage",
    "gather": "judging",
    "judge": "judging",
    "read_topic": "reading",
    "store_letters": "letters",
    "wait_until": "worker",
}

if not TYPE_CHECKING:  # else a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
