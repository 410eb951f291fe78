"""How driven runs end: read from the results topic, from where it ended before they were sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import structlog
from confluent_kafka import Consumer, Message
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.clock import SYSTEM, Clock
from redrive.errors import RecordError
from redrive.events import ResultStatus, WorkflowResultEvent
from redrive.kafka.client import reader_config
from redrive.kafka.connect import make_consumer
from redrive.kafka.expected import Expected
from redrive.kafka.growth import Growth
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import record_of
from redrive.redriving.deciding import Send
from redrive.redriving.partition import Entry
from redrive.redriving.redrive_report import Done, Report, Step

__all__ = ["Follower", "RedriveWatch", "RunEnding", "follow"]

log = structlog.get_logger(__name__)

_BATCH = 500
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class RunEnding:
    """How a driven run ended: its letter, and the answer."""

    entry: Entry
    answer: WorkflowResultEvent

    @property
    def succeeded(self) -> bool:
        """Whether the graph ended as it should."""
        return self.answer.status is ResultStatus.SUCCESS

    @property
    def failed_alike(self) -> bool:
        """Whether it was given up for what its letter was given up for."""
        info, was = self.answer.error_info, self.entry
        if info is None or info.dlq_id is None:
            return False
        if info.fingerprint is not None and was.fingerprint is not None:
            return info.fingerprint == was.fingerprint
        return (info.reason, info.type, info.node) == (was.reason, was.error_type, was.node)


class Follower:
    """Waits for the ends of driven runs. Close it, or use it as a context manager.

    Args:
        settings: How to reach Kafka.
        start: From where each partition of the results is read; those that come later, from their
            beginning.
        clock: For looking for those.
    """

    def __init__(
        self, settings: KafkaSettings, start: Mapping[int, int], *, clock: Clock = SYSTEM
    ) -> None:
        self._waiting: dict[str, Done] = {}
        self._passed_by: set[str] = set()
        self._topic = settings.results_topic
        self._settings = settings
        self._clock = clock
        self._next = dict(start)
        self._consumer, self._growth = self._open()

    @property
    def waiting(self) -> int:
        """How many runs have not ended yet."""
        return len(self._waiting)

    def watch(self, done: Iterable[Done]) -> None:
        """Wait for these too; one whose event has no id is answered to nobody, and is left out."""
        for each in done:
            if isinstance(each.what, Send) and each.entry.event_id is not None:
                self._waiting[each.entry.event_id] = each

    def endings(self, timeout_s: float) -> list[RunEnding]:
        """Return what has ended, once something is read or `timeout_s` is over."""
        if new := self._growth.look(self._next):
            self._next.update(dict.fromkeys(new, 0))
            self._assign(self._consumer)
        if self._growth.is_outdated:
            self._consumer.close()
            self._next = dict.fromkeys(self._next, 0)
            self._consumer, self._growth = self._open()
        first = self._consumer.poll(timeout_s)
        messages = [*([first] if first else ()), *self._consumer.consume(_BATCH, 0)]
        return [end for message in messages if (end := self._ending(message)) is not None]

    def close(self) -> None:
        """Let the client go."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> tuple[Consumer, Growth]:
        consumer: Consumer = make_consumer(reader_config(self._settings))
        self._assign(consumer)
        return consumer, Growth(consumer, self._topic, settings=self._settings, clock=self._clock)

    def _assign(self, consumer: Consumer) -> None:
        consumer.assign(
            [
                KafkaTopicPartition(self._topic, number, offset)
                for number, offset in self._next.items()
            ]
        )

    def _ending(self, message: Message) -> RunEnding | None:
        if message.error() is None:
            self._next[message.partition() or 0] = (message.offset() or 0) + 1
        event_id = (record_of(message).key or b"").decode("utf-8", "replace")
        done = self._waiting.get(event_id)
        if done is None or message.error() is not None:
            return None
        try:
            answer = WorkflowResultEvent.from_bytes(record_of(message).value)
        except RecordError as error:
            self._pass_by(event_id, message, f"it cannot be read: {error}")
            return None
        assert isinstance(done.what, Send)  # noqa: S101 - only these are watched
        # Where its event is stored now, the transaction that sent it does not say; and an event
        # that was edited may be another workflow's.
        why = Expected(event_id, redrive_count=done.what.count).mismatch(answer)
        if why is not None:
            self._pass_by(event_id, message, why)
            return None
        del self._waiting[event_id]
        return RunEnding(done.entry, answer)

    def _pass_by(self, event_id: str, message: Message, why: str) -> None:
        if event_id not in self._passed_by:
            self._passed_by.add(event_id)
            tp = f"{message.partition()}@{message.offset()}"
            log.warning("results.passed_by", event_id=event_id, place=tp, why=why)


def follow(
    settings: KafkaSettings, report: Report, *, timeout: timedelta, clock: Clock = SYSTEM
) -> Iterator[RunEnding]:
    """Return the ends of the runs that `report` says were driven, as they come.

    It ends with the last of them, or when `timeout` has passed since the latest.
    """
    with Follower(settings, report.results_from) as follower:
        follower.watch(report.done)
        patience = clock.monotonic() + timeout.total_seconds()
        while follower.waiting and clock.monotonic() < patience:
            for ending in follower.endings(_POLL_S):
                patience = clock.monotonic() + timeout.total_seconds()
                yield ending


class RedriveWatch:
    """Keeps the report of a redrive, and stops it when its runs end as they should not.

    Args:
        report: Takes each step in; `stopped` is set here.
        follower: Sees how runs end; None when nobody asked for that.
        not_alike: Whether a run that comes back with the failure of its letter ends the work.
        patience: How long the end of the next canary may take.
        clock: For that.
    """

    def __init__(
        self,
        report: Report,
        follower: Follower | None,
        not_alike: bool,  # noqa: FBT001 - built in one place
        patience: timedelta,
        clock: Clock,
    ) -> None:
        self._report = report
        self._follower = follower
        self._not_alike = not_alike
        self._patience_s = patience.total_seconds()
        self._clock = clock

    def hear(self, step: Step) -> None:
        """Take in what a step has done."""
        self._report.add(step)
        if self._follower is not None:
            self._follower.watch(step.done)

    def may_go_on(self, *, wait: bool) -> bool:
        """Say whether more may be sent; `wait` for the canaries first."""
        follower = self._follower
        if follower is None:
            return True
        give_up_at = self._clock.monotonic() + self._patience_s
        while True:
            for ending in follower.endings(_POLL_S if wait else 0):
                give_up_at = self._clock.monotonic() + self._patience_s
                self._judge(ending, canary=wait)
            if self._report.stopped is not None:
                return False
            if not wait or not follower.waiting:
                return True
            if self._clock.monotonic() > give_up_at:
                told = f"{follower.waiting} of the first runs have not ended"
                self._report.stopped = f"{told} within {self._patience_s:g} s"

    def _judge(self, ending: RunEnding, *, canary: bool) -> None:
        told = f"the run of letter {ending.entry.dlq_id} ended again as "
        if self._not_alike and ending.failed_alike:
            self._report.stopped = f"{told}its letter did: {ending.answer.error}"
        elif canary and not ending.succeeded:
            self._report.stopped = f"{told}{ending.answer.status}: {ending.answer.error}"
