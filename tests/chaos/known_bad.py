"""Workers that are known to be bad: `BAD=name python known_bad.py worker ...`.

Each is the real worker with one small patch, which breaks one promise. The judge must catch it:
who does not, would not see that redrive itself had become that bad.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.cli import main
from redrive.consumer import settle
from redrive.consumer.dispatcher import Dispatcher
from redrive.consumer.event_run import Run
from redrive.consumer.outcome_builder import GivenUp
from redrive.consumer.partitions import Partitions
from redrive.consumer.runner import NextStep, Runner
from redrive.consumer.settle import Settler
from redrive.consumer.worker_lifecycle import Worker, WorkerComponents
from redrive.graphs import Lease, WorkflowProcessor
from redrive.kafka.connect import make_producer
from redrive.kafka.log import ConsumerRecord, Log, TopicPartition
from redrive.kafka.producer_thread import ProducerThread
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.state.commit_metadata import CommitMetadata, OffsetEntry, encode
from redrive.wiring import parts


def commits_before_it_settles() -> None:
    """Commit all that was received, whatever has become of it."""
    seen: dict[TopicPartition, int] = {}
    received, offsets = Settler.received, Settler._offsets  # noqa: SLF001 - to patch it

    def note_offsets(self: Settler, records: Sequence[ConsumerRecord]) -> None:
        seen.update({record.tp: record.offset + 1 for record in records})
        received(self, records)

    def early(
        self: Settler,
        tps: Iterable[TopicPartition],
        finished: Mapping[TopicPartition, Sequence[int]],
    ) -> dict[TopicPartition, KafkaTopicPartition]:
        return {
            tp: KafkaTopicPartition(*tp, seen.get(tp, p.offset))
            for tp, p in offsets(self, tps, finished).items()
        }

    patch(Settler, received=note_offsets, _offsets=early)


def is_blind_to_epochs() -> None:
    """Finish what any assignment has begun, as long as its partition is held."""
    withdraw = late_cancelling()

    def forget(self: Dispatcher, tps: Mapping[TopicPartition, int]) -> None:
        withdraw(self, tps)
        self._gone.clear()

    patch(Partitions, holds=lambda self, delivery: self.owns(delivery.tp))
    patch(Dispatcher, revoke=forget)


def counts_attempts_in_memory() -> None:
    """Leave failures and crashes out of what is committed."""

    def forget(metadata: CommitMetadata, **limits: int) -> str:
        begun = {at: OffsetEntry(started=entry.started) for at, entry in metadata.entries.items()}
        return encode(replace(metadata, entries=begun), **limits)

    patch(settle, encode=forget)


def does_not_wait_for_letters() -> None:
    """Send letters beside the transaction, and believe that they will arrive."""
    topic = os.environ["REDRIVE_KAFKA__DLQ_TOPIC"]
    servers = os.environ["REDRIVE_KAFKA__BOOTSTRAP_SERVERS"]
    beside = Producer({"bootstrap.servers": servers, "linger.ms": 60_000})

    class Hasty:
        def __init__(self, producer: Producer) -> None:
            self._producer: Any = producer

        def produce(self, to: str, **record: object) -> None:
            if to == topic:
                del record["on_delivery"]
                beside.produce(to, **cast("Any", record))
            else:
                self._producer.produce(to, **record)

        def __getattr__(self, name: str) -> object:
            return getattr(self._producer, name)

    patch(parts, make_producer=lambda config: Hasty(make_producer(config)))


def swallows_cancellation() -> None:
    """Take the end of a run that is cut, because its worker stops, for the run's own failure."""
    attempt = Runner.attempt

    async def swallow(self: Runner, run: Run, **more: Any) -> NextStep:
        try:
            return await attempt(self, run, **more)
        except asyncio.CancelledError as error:
            given_up = GivenUp(error, Failure(Kind.PERMANENT), Reason.PERMANENT)
            return NextStep(self._outcomes.given_up(run, given_up))

    patch(Runner, attempt=swallow)


def writes_checkpoints_unguarded() -> None:
    """Let whoever has begun a run write to its thread: its lease lasts for ever."""
    attempt = WorkflowProcessor._attempt  # noqa: SLF001 - to patch it

    def for_ever(self: WorkflowProcessor, told: Any, _: Lease, *more: Any) -> Any:  # noqa: ANN401 - as they come
        return attempt(self, told, Lease(), *more)

    patch(WorkflowProcessor, _attempt=for_ever)
    patch(Dispatcher, revoke=late_cancelling())


def commits_for_partitions_of_others() -> None:
    """Go on committing where it stood for partitions that have gone to others."""
    gone: dict[TopicPartition, int] = {}
    again_s = 0.2
    last_s = 0.0
    part, lose, turn = Partitions.suspend, Partitions.lose, Settler.turn

    def remember(self: Partitions, tps: Iterable[TopicPartition]) -> None:
        for tp in tps:
            if self.owns(tp) and (at := self.ledger(tp).committable) is not None:
                gone[tp] = at

    def remember_and_part(self: Partitions, tps: Iterable[TopicPartition]) -> None:
        remember(self, tps)
        part(self, tps)

    def remember_and_lose(
        self: Partitions, tps: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        remember(self, tps)
        return lose(self, tps)

    def commit_too(self: Settler, kafka: Log, *, gap_s: float) -> float:
        nonlocal last_s
        stale = gone.keys() - self._partitions.epochs(gone).keys()
        if stale and time.monotonic() > last_s + again_s:
            last_s = time.monotonic()
            kafka.commit([KafkaTopicPartition(*tp, gone[tp]) for tp in stale])
        return turn(self, kafka, gap_s=gap_s)

    patch(Partitions, part=remember_and_part, lose=remember_and_lose)
    patch(Settler, turn=commit_too)


def keeps_its_producer_after_a_doubt() -> None:
    """Make a second call on a producer whose commit did not answer."""
    renew = ProducerThread._renew  # noqa: SLF001 - to patch it

    def keep(self: ProducerThread, *, first: bool = False) -> None:
        if first:
            renew(self, first=True)

    patch(ProducerThread, _renew=keep)


def believes_positions() -> None:
    """Read a commit's note from whatever offset and log it is found at."""
    patch(CommitMetadata, foreign_to=lambda _, __, ___: None)


def stands_still() -> None:
    """Settle nothing more, and say nothing, once the producer was replaced."""
    renew, send = ProducerThread._renew, Settler._send  # noqa: SLF001 - to patch it
    still = False

    def renew_and_stand(self: ProducerThread, *, first: bool = False) -> None:
        nonlocal still
        still = still or not first
        renew(self, first=first)

    def send_unless_still(self: Settler, kafka: Log) -> None:
        if not still:
            send(self, kafka)

    async def look_away(_: Worker, __: WorkerComponents) -> None:
        await asyncio.Event().wait()

    patch(ProducerThread, _renew=renew_and_stand)
    patch(Settler, _send=send_unless_still)
    patch(Worker, _watch_progress=look_away)


def late_cancelling() -> Callable[[Dispatcher, Mapping[TopicPartition, int]], None]:
    """Return a withdrawal whose cancelling comes too late, as it may: runs go on to their end."""
    withdraw = Dispatcher.revoke

    def late(self: Dispatcher, tps: Mapping[TopicPartition, int]) -> None:
        for live in self._live.values():
            live.task = None
        withdraw(self, tps)

    return late


BAD: Mapping[str, Callable[[], None]] = {
    bad.__name__: bad
    for bad in (
        commits_before_it_settles,
        is_blind_to_epochs,
        counts_attempts_in_memory,
        does_not_wait_for_letters,
        swallows_cancellation,
        writes_checkpoints_unguarded,
        commits_for_partitions_of_others,
        keeps_its_producer_after_a_doubt,
        believes_positions,
        stands_still,
    )
}


def patch(what: Any, **by: object) -> None:  # noqa: ANN401 - a module or a class
    for name, value in by.items():
        assert hasattr(what, name), name
        setattr(what, name, value)


if __name__ == "__main__":
    if os.environ["BAD"] != "none":
        BAD[os.environ["BAD"]]()
    main()
