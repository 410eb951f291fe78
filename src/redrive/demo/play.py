"""Plays the demo: starts everything, watches until all has ended, ends everything."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from redrive.clock import SYSTEM
from redrive.demo.environment import DemoEnvironment, broker
from redrive.demo.interrupts import one_interrupt
from redrive.demo.sources import DemoTopics, LineFile, reported, worker_logged
from redrive.demo.story import Story
from redrive.demo.summary import Summary
from redrive.demo.telling import Happening, Who
from redrive.demo.timeline import Timeline
from redrive.demo.user import User
from redrive.demo.watch import DemoWatch
from redrive.kafka.kafka_settings import KafkaSettings

__all__ = ["play"]

# How long each may take to stop when it is asked to.
_WORKER_PATIENCE_S = 10.0
_AIRFLOW_PATIENCE_S = 1.0


def play(given: KafkaSettings | None, *, console: Console, folder: Path) -> Summary:
    """Play the demo, and return what it came to. Nothing it started is left running.

    Args:
        given: A broker of the user's; None takes the one inside the wheel.
        console: Gets the timeline.
        folder: An empty folder for databases and logs; what becomes of it is the caller's.

    Raises:
        DemoError: A process ended too early, or the demo took too long.
        KafkaUnavailableError: The given broker does not answer.
        SettingsError: The given broker refuses a topic.
    """
    began = SYSTEM.now().timestamp()
    with ExitStack() as ending:
        ignore_signals = ending.enter_context(one_interrupt())
        timeline = ending.enter_context(Timeline(console, began=began))
        kafka, delivery = ending.enter_context(broker(given))
        timeline.add(_broker_is_up(kafka, own=given is None))
        topics = DemoTopics(kafka)
        ending.callback(topics.close)
        stage = DemoEnvironment(kafka, delivery, folder)
        airflow = stage.start_airflow()
        ending.callback(airflow.end, patience_s=_AIRFLOW_PATIENCE_S)
        worker = stage.start_worker()
        ending.callback(worker.end, patience_s=_WORKER_PATIENCE_S)
        user = User(stage)
        ending.callback(user.end)
        ending.callback(timeline.waiting_for, "ending what was started")
        ending.callback(ignore_signals)
        story = Story()
        sources = (
            LineFile(stage.airflow_report, reported),
            LineFile(stage.worker_log, worker_logged),
            LineFile(stage.executions, reported),
            topics,
            user,
        )
        watch = DemoWatch(worker, sources=sources, story=story, timeline=timeline)
        watch.until_the_dag_has_ended(airflow)
        _drive_letters(story, user, watch)
        watch.to_the_end()
    return Summary(
        broker="embedded" if given is None else kafka.bootstrap_servers,
        delivery=delivery.value,
        seconds=round(SYSTEM.now().timestamp() - began, 1),
        runs=story.runs(),
        command=story.command,
    )


def _drive_letters(story: Story, user: User, watch: DemoWatch) -> None:
    # Without a letter there is nothing to drive: the verdict says that it is missing.
    if story.letters:
        user.fix_cause()
        watch.until_it_is_driven(user.drive_again(story.letters))


def _broker_is_up(kafka: KafkaSettings, *, own: bool) -> Happening:
    which = "the broker inside the confluent-kafka wheel is up" if own else "your broker answers"
    text = f"{which}: {kafka.bootstrap_servers}"
    return Happening(SYSTEM.now().timestamp(), Who.KAFKA, text)
