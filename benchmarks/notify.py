"""The worker while people are told of its letters, against the same work with nobody to tell.

Half of the events fail, all of one cause. Sides: no channel; a webhook that answers; one that
hangs; one that answers 500; a hook that hangs. Each is run in turn, several times, and the ratio
of the best rates is printed. Usage: python benchmarks/notify.py [--events N] [--rounds N].
Needs Java and Maven (it starts a broker of its own); takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import structlog

from redrive.clock import SYSTEM
from redrive.consumer.worker_settings import WorkerSettings
from redrive.events import WorkflowEvent
from redrive.graphs import Checkpoints, CheckpointSettings
from redrive.graphs.attempt_ends import Ended, Failed, RunEnd
from redrive.kafka.topic_admin import verify_topics
from redrive.notify import LetterNotice
from redrive.notify.notify_settings import NotifySettings
from redrive.settings import Settings
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.webhook import Webhook
from redrive.wiring import build_worker
from redrive.wiring.notification_observer import NotificationObserver

PARTITIONS = 8


class Half:
    """Answers every other event, and fails the rest."""

    def new_control(self) -> None:
        return None

    async def run(self, event: WorkflowEvent, **_: object) -> RunEnd:
        if event.payload.data["fails"]:
            error = ValueError(f"the prompt of {event.event_id} has no question")
            return Failed(error, node="write", position=None, resumed=False)
        return Ended(result={"id": event.event_id}, resumed=False)

    async def give_up(self, event: WorkflowEvent, error: Exception, **_: object) -> Failed:
        raise AssertionError(f"{event.event_id} never crashes") from error


async def rate(
    servers: str,
    events: int,
    urls: Mapping[str, str],
    hook: Callable[[LetterNotice], object] | None,
) -> float:
    """Return events per second, from the first ending to the last."""
    env = KafkaEnv(servers, create_topics(servers, partitions=PARTITIONS), folder=Path())
    env.send(event({"fails": number % 2 == 0}) for number in range(events))
    settings = Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url="none"),
        worker=WorkerSettings(id="bench", in_flight=64),
        notify=NotifySettings.model_validate({"urls": urls, "window": 1}),
    )
    telling = NotificationObserver(settings, hook, worker="bench", clock=SYSTEM)
    worker = build_worker(
        settings,
        Half(),
        Checkpoints(settings.checkpoints),
        report=verify_topics(settings.kafka),
        name="bench",
        observers=[telling],
    )
    telling.start()
    await worker.start()
    while not sum(worker.endings.values()):
        await asyncio.sleep(0.001)
    first, start = sum(worker.endings.values()), time.perf_counter()
    while sum(worker.endings.values()) < events:
        await asyncio.sleep(0.005)
    found = (events - first) / (time.perf_counter() - start)
    await worker.stop()
    await telling.end(limit_s=0.1)
    return found


async def main(events: int, rounds: int) -> None:
    print(json.dumps({"machine": platform.machine(), "cores": os.cpu_count(), "events": events}))
    released = threading.Event()
    with LocalBroker() as broker, ExitStack() as stack:
        answers, hangs, refuses = (stack.enter_context(Webhook()) for _ in range(3))
        hangs.go_on.clear()
        refuses.status = 500
        sides: dict[str, tuple[dict[str, str], Callable[[LetterNotice], object] | None]] = {
            "nobody to tell": ({}, None),
            "a webhook": ({"a": answers.url}, None),
            "a webhook that hangs": ({"a": hangs.url}, None),
            "a webhook that answers 500": ({"a": refuses.url}, None),
            "a hook that hangs": ({}, lambda _: released.wait()),
        }
        best = dict.fromkeys(sides, 0.0)
        for _ in range(rounds):
            for side, (urls, hook) in sides.items():
                found = await rate(broker.bootstrap_servers, events, urls, hook)
                best[side] = max(best[side], found)
        released.set()
        alone = best.pop("nobody to tell")
        for side, found in best.items():
            what = f"half of the events fail, with {side} / with nobody to tell"
            print(
                json.dumps(
                    {
                        "figure": "notify",
                        "what": what,
                        "value": round(found / alone, 2),
                        "goal": ">= 0.9",
                        "worker": round(found),
                        "alone": round(alone),
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=10_000)
    arguments.add_argument("--rounds", type=int, default=3)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    given = arguments.parse_args()
    sys.exit(asyncio.run(main(given.events, given.rounds)))
