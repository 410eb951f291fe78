"""Asks the letters whether events that claim to be redrives are: reads their topic, off the loop.

Of each partition it keeps which letters are being driven, and reads on where it stopped: a burst of
redrives costs one reading of the state records that were written with them. Where to begin, the
events say, or their times do; whoever names ever earlier places has the partition read four times
in all, at most. What cannot be read now is read later, and its events wait. [P1, P13]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from redrive.clock import Clock
from redrive.dead_letter.driven import ClaimedRedrive, DrivenLetters
from redrive.dead_letter.fold import Descent
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import RECORD_HEADER, read_letter
from redrive.dead_letter.vouching import Vouched, vouched
from redrive.events import EventPlace
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.partition_log import PartitionLog
from redrive.kafka.reader_thread import ReaderThread
from redrive.signatures import NO_TRUST, Verifier

__all__ = ["DrivenIndex", "Judged", "LettersLog", "LettersReader"]

log = structlog.get_logger("redrive.consumer")

Judged = Mapping[tuple[TopicPartition, int], bool]
"""Whether events are the redrives that they claim to be, by their positions."""

EARLIER_MS = 10 * 60 * 1_000
"""What says that an event drives a letter was written at most so long before the event's own
timestamp: clocks differ."""
_KEPT_S = 10 * 60.0
"""What is known of a partition is forgotten when nobody has asked for so long."""
_LIMIT_S = 10.0


class LettersLog(Protocol):
    """The letters topic, as far as it is asked."""

    def written_to(self, partition: int) -> int:
        """Return where a partition ends, open transactions included."""
        ...

    def offset_at(self, partition: int, at_ms: int) -> int | None:
        """Return the first offset that bears this time or a later one; None where there is none."""
        ...

    def read(self, partition: int, start: int, stop: int) -> Iterator[ConsumerRecord]:
        """Return what is committed from `start` on and before `stop`; waits for what is open."""
        ...


@dataclass(slots=True)
class _KnownPartition:
    """What one partition of letters says, read from `start` up to `next`."""

    start: int
    next: int
    asked_at: float
    driven: DrivenLetters = field(default_factory=DrivenLetters)


class DrivenIndex:
    """Knows which letters are being driven, of the partitions that were asked about.

    Args:
        verifier: Says which letters and states count.
    """

    def __init__(self, verifier: Verifier = NO_TRUST.verifier) -> None:
        self._verifier = verifier
        self._known: dict[int, _KnownPartition] = {}

    def forget(self, partition: int) -> None:
        """Forget what is known of a partition."""
        self._known.pop(partition, None)

    def forget_before(self, asked_at: float) -> None:
        """Forget the partitions that nobody has asked about since."""
        old = [number for number, known in self._known.items() if known.asked_at < asked_at]
        for number in old:
            del self._known[number]

    def judge(
        self,
        letters: LettersLog,
        partition: int,
        claims: Mapping[int, ClaimedRedrive],
        *,
        now: float,
    ) -> Iterator[dict[int, bool]]:
        """Yield what is true of the claims of a partition, each as soon as that is known.

        Args:
            letters: Where it is read.
            partition: Of the events, and of the letters.
            claims: By the offsets of their events.
            now: In monotonic seconds.
        """
        # Whatever was written in the transaction of an event that we have read lies before this.
        stop = letters.written_to(partition)
        known, starts = self._known.get(partition), dict[int, int]()
        if known is None or known.next > stop:  # else the topic has begun anew
            starts = _starts(letters, partition, claims, stop)
            known = self._begin(partition, max(starts.values()))
        known.asked_at = now
        self._read_on(letters, partition, known, stop)
        found = {offset: True for offset, claim in claims.items() if known.driven.believes(claim)}
        yield found
        left = {offset: claim for offset, claim in claims.items() if offset not in found}
        if left and known.start > 0:
            starts = starts or _starts(letters, partition, left, stop)
            first = min(starts[offset] for offset in left)
            if first < known.start:
                # At least as much again, so that all readings together stay within twice the last.
                first = min(first, max(0, stop - 2 * (stop - known.start)))
                known = self._begin(partition, first)
                known.asked_at = now
                self._read_on(letters, partition, known, stop)
        yield {offset: known.driven.believes(claim) for offset, claim in left.items()}

    def _read_on(
        self, letters: LettersLog, partition: int, known: _KnownPartition, stop: int
    ) -> None:
        for record in letters.read(partition, known.next, stop):
            self._take(known.driven, record)
            known.next = record.offset + 1
        known.next = max(known.next, stop)

    def _take(self, driven: DrivenLetters, record: ConsumerRecord) -> None:
        is_letter = dict(record.headers).get(RECORD_HEADER, b"letter") == b"letter"
        if is_letter and not len(driven):
            return  # most are; none of them ends what is not being driven
        found = read_letter(record, self._verifier)
        if not isinstance(found, DeadLetter):
            if found is not None:
                driven.state(found)
        elif vouched(record, found.reason, self._verifier) is not Vouched.LETTER_NOT:
            source = found.source
            tp = EventPlace.model_construct(
                topic=source.topic, partition=source.partition, offset=source.offset
            )
            driven.letter(Descent.of(found).redrive_of, found.event_id, tp)

    def _begin(self, partition: int, start: int) -> _KnownPartition:
        known = self._known[partition] = _KnownPartition(start, start, 0.0)
        return known


def _starts(
    letters: LettersLog, partition: int, claims: Mapping[int, ClaimedRedrive], stop: int
) -> dict[int, int]:
    """Return from where on the letters would tell of each claim."""
    found = {at: claim.letters for at, claim in claims.items() if 0 < claim.letters < stop}
    times = [claim.at_ms or 0 for at, claim in claims.items() if at not in found]
    if times:
        # One question for all of them, by the earliest.
        start = letters.offset_at(partition, max(min(times) - EARLIER_MS, 0))
        start = stop if start is None else min(start, stop)
        found |= {at: start for at in claims if at not in found}
    return found


class _KafkaLetters:
    """The letters topic on a real broker."""

    def __init__(
        self, settings: KafkaSettings, consumer: Consumer, admin: AdminClient, clock: Clock
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._admin = admin
        self._clock = clock

    def written_to(self, partition: int) -> int:
        return self._log(partition).end()

    def offset_at(self, partition: int, at_ms: int) -> int | None:
        return self._log(partition).offset_at(at_ms)

    def read(self, partition: int, start: int, stop: int) -> Iterator[ConsumerRecord]:
        return self._log(partition).read(start, stop)

    def _log(self, partition: int) -> PartitionLog:
        return PartitionLog(
            self._settings,
            TopicPartition(self._settings.dlq_topic, partition),
            consumer=self._consumer,
            admin=self._admin,
            clock=self._clock,
            limit_s=_LIMIT_S,
        )


class LettersReader:
    """Asks the letters; `ask`, `forget` and `close` may be called from any thread.

    Args:
        settings: How to reach Kafka. A letter lies on the partition of its event's number.
        make_consumer: Builds what partitions are read with; called on the reader's thread.
        make_admin: Builds what says where partitions end; called there too.
        judged: Takes the answers, on the reader's thread.
        clock: For waits and limits.
        verifier: Says which letters and states count.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        make_consumer: Callable[[], Consumer],
        make_admin: Callable[[], AdminClient],
        *,
        judged: Callable[[Judged], None],
        clock: Clock,
        verifier: Verifier = NO_TRUST.verifier,
    ) -> None:
        self._settings = settings
        self._make_admin = make_admin
        self._judged = judged
        self._clock = clock
        self._asked: dict[TopicPartition, dict[int, ClaimedRedrive]] = {}
        self._gone: set[TopicPartition] = set()
        self._index = DrivenIndex(verifier)
        self._admin: AdminClient | None = None
        self._failing = False
        self._thread = ReaderThread(
            "redrive-letters",
            make_consumer,
            wanted=lambda: bool(self._asked),
            read=self._read,
            failed=self._has_failed,
            clock=clock,
        )

    def ask(self, claims: Mapping[tuple[TopicPartition, int], ClaimedRedrive]) -> None:
        """Judge these, as soon as the letters can be read."""
        with self._thread.changed:
            if self._thread.is_closed or not claims:
                return
            for (tp, offset), claim in claims.items():
                self._asked.setdefault(tp, {})[offset] = claim
            self._thread.wake()

    def forget(self, tps: Iterable[TopicPartition]) -> None:
        """Judge nothing more of these partitions of the events."""
        with self._thread.changed:
            for tp in tps:
                self._asked.pop(tp, None)
                self._gone.add(tp)

    def close(self) -> None:
        """Judge nothing more at all; the thread ends by itself."""
        with self._thread.changed:
            self._asked.clear()
            self._thread.close()

    def join(self) -> None:
        """Wait until its thread has ended, for two seconds at most."""
        self._thread.join()

    def _read(self, consumer: Consumer) -> None:
        if self._admin is None:
            self._admin = self._make_admin()
        letters = _KafkaLetters(self._settings, consumer, self._admin, self._clock)
        with self._thread.changed:
            asked = {tp: dict(claims) for tp, claims in self._asked.items()}
            gone = [tp.partition for tp in self._gone - asked.keys()]
            self._gone.clear()
        for partition in gone:
            self._index.forget(partition)
        now, failed = self._clock.monotonic(), list[Exception]()
        self._index.forget_before(now - _KEPT_S)
        for tp, claims in asked.items():
            # A partition of letters without a leader holds up the events of its own number alone.
            try:
                for found in self._index.judge(letters, tp.partition, claims, now=now):
                    self._tell(tp, claims, found)
            except Exception as error:  # noqa: BLE001 - told below, and tried again
                failed.append(error)
        if failed:
            raise failed[0]
        self._is_well(sum(map(len, asked.values())))

    def _tell(
        self, tp: TopicPartition, claims: Mapping[int, ClaimedRedrive], found: Mapping[int, bool]
    ) -> None:
        with self._thread.changed:
            asked = self._asked.get(tp, {})
            # A partition that went and came back has asked anew, of what may be another event.
            told = {at: is_so for at, is_so in found.items() if asked.get(at) == claims[at]}
            for offset in told:
                del asked[offset]
            if not asked:
                self._asked.pop(tp, None)
        if told:
            self._judged({(tp, offset): is_so for offset, is_so in told.items()})

    def _is_well(self, claims: int) -> None:
        if self._failing:
            self._failing = False
            log.info("redrives.judged_again", events=claims)

    def _has_failed(self, error: Exception) -> None:
        """Say so once, until the letters were read again."""
        self._admin = None
        if self._failing:
            return
        self._failing = True
        with self._thread.changed:
            waiting = sum(map(len, self._asked.values()))
        log.error(
            "redrives.not_judged",
            topic=self._settings.dlq_topic,
            waiting=waiting,
            error=str(error),
            hint="a worker reads the letters topic to know a redrive: it needs the right to",
        )
