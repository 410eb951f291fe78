"""The poll thread: the one owner of the Consumer.

It polls, whatever else goes on, so that long work keeps its partitions [P7]. What happens to
records and partitions is the listener's; every call of the listener comes on this thread, and every
call on the Consumer goes through it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import NamedTuple, NoReturn, Protocol, cast

import structlog
from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
)
from confluent_kafka import (
    TopicPartition as KafkaTopicPartition,
)

from redrive.clock import Clock
from redrive.errors import FencedError, KafkaLostError, SettingsError
from redrive.kafka.retrying import advice, error_of, is_permanent, with_advice
from redrive.kafka.static_membership import StaticMembership
from redrive.kafka.topic_ids import NOT_TOLD, IdsAsOf, TopicIds
from redrive.kafka.unreadable import WHY, Gap, UnreadableBatches
from redrive.telemetry.repeats import REPEATS

__all__ = [
    "Committed",
    "ConsumerRecord",
    "Listener",
    "Log",
    "PollThread",
    "Pulse",
    "TopicPartition",
    "record_of",
    "unreadable_records",
]

log = structlog.get_logger("redrive.kafka")

_BATCH = 500
_BATCH_BYTES = 4 * 2**20
_FATAL = KafkaError._FATAL
_AT_END = KafkaError._PARTITION_EOF
_FENCED = (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED)
_NO_RIGHT = (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED)
_FENCED_TEXT = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
_HELD_TEXT = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()
_TOO_OLD_TEXT = KafkaError(KafkaError.UNSUPPORTED_VERSION).str()
_ASK_AGAIN_S = 1.0
# The client returns a result although it has failed; called in another way, Python 3.11 would see
# that only at some later call.
_READ_HEADERS = methodcaller("headers")
_NO_LEADER = -1


class _InstanceHeldError(FencedError):
    """Our seat is still another's, who may be dead."""


class _OutdatedError(Exception):
    """What this consumer knows of the cluster may be of no use any more: a new one is to be made.

    Its group's coordinator is away for so long that it may never find it again, or a topic has been
    made anew.
    """


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class ConsumerRecord(NamedTuple):
    """One record as it lies on its topic."""

    # A tuple, as it is made for each record: a frozen dataclass takes five times as long.
    tp: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None
    leader_epoch: int | None = None
    """How many leaders the partition has had when it was written; None where that is not told."""
    unreadable: str | None = None
    """Why the client could not give it, in words: its place is all that is known of it then."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What the group has committed for a partition; no offset when nothing yet.

    `leader_epoch` is the newest that was read when it was committed, as far as that is told.
    """

    offset: int | None
    metadata: str | None
    leader_epoch: int | None = None


class Log(Protocol):
    """What a listener may ask of the Consumer; only from within its own calls."""

    def assignment(self) -> Collection[TopicPartition]:
        """Return what the client was told to fetch from."""
        ...

    def committed(
        self, tps: Iterable[TopicPartition], *, timeout_s: float
    ) -> Mapping[TopicPartition, Committed]:
        """Read what the group has committed. Raises KafkaException when the broker does not say."""
        ...

    def ends(
        self, tps: Iterable[TopicPartition], *, timeout_s: float
    ) -> Mapping[TopicPartition, int]:
        """Read where partitions end now; those that have no leader are left out.

        Raises KafkaException when the brokers do not say.
        """
        ...

    def topic_ids(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        """Read which topics those of these names are now, by id; empty where that is not known.

        Raises KafkaException when the broker does not say.
        """
        ...

    def changed_ids(self, topics: Collection[str], *, within_s: float) -> IdsAsOf:
        """Return ids of topics that were asked for in the background, if they have come.

        They are asked for now and then, and where that is sooner `within_s` of the last time.
        """
        ...

    def pause(self, tps: Iterable[TopicPartition]) -> None:
        """Stop fetching from partitions."""
        ...

    def resume(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch again."""
        ...

    def seek(self, tp: TopicPartition, offset: int, *, leader_epoch: int | None = None) -> bool:
        """Go on from `offset`; from where the log was cut back, if it is no longer that epoch's.

        False when the client cannot yet: it is just beginning, or ending, with the partition.
        """
        ...

    def commit(self, offsets: Sequence[KafkaTopicPartition]) -> None:
        """Send offsets to commit (at least once only); `commit_ended` tells what came of it."""
        ...

    def group(self) -> object:
        """Return the group's metadata, which a transaction takes along."""
        ...


class Listener(Protocol):
    """What the poll thread tells; each call comes on that thread."""

    def assigned(self, kafka: Log, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Partitions are ours, and not fetched yet; return where to begin, as far as known."""
        ...

    def fetching(self, kafka: Log) -> None:
        """Fetching has just begun."""
        ...

    def revoked(self, kafka: Log, tps: Sequence[TopicPartition], *, lost: bool) -> None:
        """Partitions go; when `lost` they are gone already."""
        ...

    def joins_anew(self, *, fenced: bool) -> None:
        """A new consumer takes the place of the old one: nothing that was asked of that one holds.

        When `fenced`, the worker's producer may be another's prey as well.
        """
        ...

    def received(self, records: Sequence[ConsumerRecord]) -> None:
        """Records have come."""
        ...

    def reached_end(self, ends: Mapping[TopicPartition, int]) -> None:
        """The client has read up to these offsets, where partitions end; all records were told."""
        ...

    def turn(self, kafka: Log, *, gap_s: float) -> float:
        """Do what is due; return how many seconds the poll may wait for records.

        `gap_s` is how long this thread had not moved.
        """
        ...

    def commit_ended(self, tps: Sequence[TopicPartition], error: KafkaError | None) -> None:
        """Offsets sent with `commit` were taken, or not."""
        ...


class Unassigned(Protocol):
    """Finds partitions that the group gives to nobody."""

    def assigned(self) -> None:
        """Have it asked after an assignment."""
        ...

    def look(self) -> Collection[TopicPartition]:
        """Return the partitions that nobody has, once for each answer that names some."""
        ...


class Pulse:
    """When the poll thread last moved; read by the guard from other threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.monotonic()

    @property
    def last(self) -> float:
        """When it last moved, in monotonic seconds."""
        return self._last

    def look(self) -> tuple[float, float]:
        """Return now, in monotonic seconds, and the seconds since the last move."""
        now = self._clock.monotonic()
        return now, now - self._last

    def beat(self, at: float | None = None) -> None:
        """Have moved at this monotonic second, or now."""
        self._last = self._clock.monotonic() if at is None else at

    def gap_s(self) -> float:
        """Return the seconds since the last move."""
        return self.look()[1]


class PollThread:
    """Runs one Consumer until it is told to stop, or cannot go on.

    Args:
        make_consumer: Builds the consumer, on this thread; takes further client options, and who
            is to be told of errors.
        topics: What to subscribe to.
        listener: Whom to tell.
        pulse: Moved once a turn.
        membership: Ours in the group.
        incremental: Whether the group tells what comes and goes (KIP-848), or all that is ours.
        topic_ids: Tells the ids of topics.
        away_s: For how many seconds the group's coordinator is away by now.
        unassigned: Finds what the group gives to nobody; only the classic protocol needs it.
        away_limit_s: After how many of them a new consumer takes the place of the old one; longer
            than a session, so that there is nothing left to keep.
        ended: Called once, on this thread, with the error that ended it, or None.
    """

    def __init__(  # noqa: PLR0913 - what a member of a group needs, each by its name
        self,
        make_consumer: Callable[[Mapping[str, object], Callable[[KafkaError], None]], Consumer],
        *,
        topics: Sequence[str],
        listener: Listener,
        pulse: Pulse,
        membership: StaticMembership,
        incremental: bool = False,
        topic_ids: TopicIds = NOT_TOLD,
        away_s: Callable[[], float] = lambda: 0.0,
        away_limit_s: float = math.inf,
        unassigned: Unassigned | None = None,
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self._make_consumer = make_consumer
        self._topics = list(topics)
        self._listener = listener
        self._pulse = pulse
        self._membership = membership
        self._incremental = incremental
        self._away_s = away_s
        self._away_limit_s = away_limit_s
        self._topic_ids = topic_ids
        self._unassigned = unassigned
        self._held: set[TopicPartition] = set()
        self._ends: dict[TopicPartition, int] = {}
        # Those that came or went since the last poll returned.
        self._moved: set[TopicPartition] = set()
        # From where they are read, as long as nothing was read of them.
        self._begins: dict[TopicPartition, int] = {}
        self._unreadable = UnreadableBatches()
        self._ended = ended
        self._stop = threading.Event()
        self._fatal: KafkaError | None = None
        self._thread = threading.Thread(target=self._run, name="redrive-poll", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._pulse.beat()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to leave the group and end."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; say whether it came in time. What never started has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while self._be_a_member():
                pass
        except Exception as exception:  # noqa: BLE001 - a thread's edge: its end is reported
            error = exception
        self._ended(error)

    def _be_a_member(self) -> bool:
        """Poll until told to stop; say whether to join the group anew."""
        self._fatal = None
        try:
            consumer = self._make_consumer({"on_commit": self._on_commit}, self._on_error)
        except KafkaException as error:
            # Only for want of a token.
            log.error("kafka.consumer_refused", error=str(error), advice=advice(error.args[0]))  # noqa: TRY400 - no bug
            return not self._stop.wait(_ASK_AGAIN_S)
        kafka = _ConsumerLog(consumer, self._topic_ids, self._topics)
        try:
            self._poll(consumer, kafka)
        except _InstanceHeldError as error:
            if not self._membership.may_wait():
                raise
            log.warning("kafka.waiting_for_seat", error=str(error))
            self._give_up_partitions(kafka, fenced=False)
        except FencedError as error:
            if not self._membership.may_join_again():
                raise
            log.warning("kafka.joining_again", error=str(error))
            self._give_up_partitions(kafka, fenced=True)
            return True
        except _OutdatedError:
            # It goes on with the certificates, addresses and passwords of its first day; a new one
            # reads them anew, as each new producer does.
            log.warning(
                "kafka.consumer_replaced",
                away_s=round(self._away_s(), 1),
                topic_made_anew=kafka.is_outdated,
            )
            self._membership.lost()
            self._give_up_partitions(kafka, fenced=False)
            return not self._stop.is_set()
        else:
            return False
        finally:
            self._close(consumer)
        return not self._stop.wait(_ASK_AGAIN_S)

    def _is_away(self) -> bool:
        return self._away_s() > self._away_limit_s

    def _close(self, consumer: Consumer) -> None:
        if self._is_away():
            # It may wait for the coordinator, and has told all that it had to tell.
            threading.Thread(target=consumer.close, name="redrive-leave", daemon=True).start()
        else:
            consumer.close()

    def _give_up_partitions(self, kafka: Log, *, fenced: bool) -> None:
        if self._held or fenced:
            self._revoke(kafka, sorted(self._held), lost=True)
        self._listener.joins_anew(fenced=fenced)

    def _poll(self, consumer: Consumer, kafka: _ConsumerLog) -> None:
        listener = self._listener
        self._subscribe(consumer, kafka)
        while not self._stop.is_set():
            now, gap_s = self._pulse.look()
            wait_s = listener.turn(kafka, gap_s=gap_s)
            # Not before that turn: a guard that sees no gap must see what a gap has cost. [P4]
            self._pulse.beat(now)
            first = consumer.poll(wait_s)
            if self._unassigned is not None and self._unassigned.look():
                self._subscribe(consumer, kafka)
            if kafka.is_outdated or self._is_away():
                raise _OutdatedError
            if self._fatal is not None:
                _raise_fatal(self._fatal)
            if first is None:
                continue
            self._moved.clear()
            messages: Sequence[Message] = (first, *consumer.consume(_more_than(first), 0))
            gaps = list[Gap]()
            if self._unreadable.concern(messages):
                gaps, messages = self._unreadable.sift(consumer, messages, self._began)
            records = [record_of(message) for message in messages if self._is_record(message)]
            for gap in gaps:
                listener.received(unreadable_records(gap))
            if records:
                listener.received(records)
            self._tell_ends()

    def _subscribe(self, consumer: Consumer, kafka: _ConsumerLog) -> None:
        consumer.subscribe(
            self._topics,
            on_assign=lambda _, parts: self._assign(consumer, kafka, parts),
            on_revoke=lambda _, parts: self._revoke(kafka, _tps(parts), lost=False),
            on_lost=lambda _, parts: self._lose(kafka, _tps(parts)),
        )

    def _tell_ends(self) -> None:
        """Tell of ends that were reached, but not of those that an earlier assignment has seen."""
        ends = {tp: end for tp, end in self._ends.items() if tp not in self._moved}
        self._ends.clear()
        if ends:
            self._listener.reached_end(ends)

    def _assign(
        self, consumer: Consumer, kafka: Log, partitions: list[KafkaTopicPartition]
    ) -> None:
        self._membership.taken()
        if self._unassigned is not None:
            self._unassigned.assigned()
        self._held.update(tps := _tps(partitions))
        self._moved.update(tps)
        begins = self._listener.assigned(kafka, tps)
        for part, tp in zip(partitions, tps, strict=True):
            # Else the client asks for it itself, and waits for a tenth of a second.
            part.offset = begins.get(tp, part.offset)
            self._begins[tp] = part.offset
        assign = consumer.incremental_assign if self._incremental else consumer.assign
        assign(partitions)
        self._listener.fetching(kafka)

    def _began(self, topic: str, partition: int) -> int | None:
        return self._begins.get(TopicPartition(topic, partition))

    def _lose(self, kafka: Log, tps: Sequence[TopicPartition]) -> None:
        # Who is fenced loses everything as well, and was told of the fence before.
        if self._fatal is None:
            self._membership.lost()
        self._revoke(kafka, tps, lost=True)

    def _revoke(self, kafka: Log, tps: Sequence[TopicPartition], *, lost: bool) -> None:
        # Whoever was fenced has given up its partitions before the client says that they go.
        self._moved.update(tps)
        self._unreadable.forget(tps)
        held = [tp for tp in tps if tp in self._held]
        self._held.difference_update(held)
        if held or not tps:
            self._listener.revoked(kafka, held, lost=lost)

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == _AT_END:
            tp = TopicPartition(message.topic() or "", message.partition() or 0)
            self._ends[tp] = message.offset() or 0
            return False
        if _is_fatal(error):
            _raise_fatal(error)
        # A member whose rights are taken away goes on: what it has in flight is not thrown away.
        if error.code() in _NO_RIGHT and not self._membership.was_taken:
            raise SettingsError(f"Kafka refuses the worker's consumer: {with_advice(error)}")
        times = REPEATS.to_log("kafka.consumer_error", error.code(), error.str())
        if times is not None and is_permanent(error):
            log.error("kafka.consumer_refused", error=str(error), advice=advice(error), **times)
        elif times is not None:
            log.warning("kafka.consumer_error", error=str(error), **times)
        return False

    def _on_error(self, error: KafkaError) -> None:
        # An idle member that is fenced may hear of it here only: its polls return nothing.
        if _is_fatal(error):
            self._fatal = error

    def _on_commit(self, error: KafkaError | None, partitions: list[KafkaTopicPartition]) -> None:
        ended: dict[int | None, tuple[KafkaError | None, list[KafkaTopicPartition]]] = {}
        for part in partitions:
            why = error or part.error
            code = None if why is None else why.code()
            ended.setdefault(code, (why, []))[1].append(part)
        for why, parts in ended.values():
            self._listener.commit_ended(_tps(parts), why)


def _tps(partitions: Iterable[KafkaTopicPartition]) -> list[TopicPartition]:
    return [TopicPartition(p.topic, p.partition) for p in partitions]


def _more_than(first: Message) -> int:
    """Return how many to take with the first: large ones are few, as a turn must come between."""
    size_bytes = 0 if first.error() is not None else len(first.value() or b"")
    return min(_BATCH - 1, _BATCH_BYTES // (1 + size_bytes))


def _is_fatal(error: KafkaError) -> bool:
    # A message may carry the code of a fatal error without its flag.
    return error.fatal() or error.code() in (*_FENCED, _FATAL)


def _raise_fatal(error: KafkaError) -> NoReturn:
    # Behind the code that says fatal, only the text names the cause.
    if error.code() in _FENCED or _FENCED_TEXT in error.str():
        raise FencedError(f"another worker with this worker.id has joined: {error.str()}")
    if _HELD_TEXT in error.str():
        raise _InstanceHeldError(
            f"another worker with this worker.id is in the group: {error.str()}"
        )
    if _TOO_OLD_TEXT in error.str():
        raise SettingsError(
            f"this Kafka has no kafka.group_protocol = consumer ({error.str()}): use 4.0 or newer, "
            "or set classic"
        )
    raise KafkaLostError(f"the consumer cannot go on: {error.str()}")


def unreadable_records(gap: Gap) -> list[ConsumerRecord]:
    """Return what stands for records that the client cannot read: their places."""
    tp = TopicPartition(gap.topic, gap.partition)
    return [
        ConsumerRecord(tp, offset, None, None, (), None, unreadable=WHY)
        for offset in range(gap.first, gap.end)
    ]


def record_of(message: Message) -> ConsumerRecord:
    """Copy a message, so that it outlives the client."""
    kind, timestamp = message.timestamp()
    headers = _headers(message)
    return ConsumerRecord(
        TopicPartition(message.topic() or "", message.partition() or 0),
        message.offset() or 0,
        message.key(),
        message.value(),
        tuple(headers) if headers else (),
        timestamp if kind else None,
        message.leader_epoch(),
    )


def _headers(message: Message) -> list[tuple[str, bytes | None]] | None:
    try:
        # The client's types allow text, which only who deserializes gets.
        return cast("list[tuple[str, bytes | None]] | None", _READ_HEADERS(message))
    except SystemError as error:
        # So the client says that one of their names is not UTF-8; it gives none of them then.
        log.warning(
            "record.headers_unreadable",
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            error=str(error.__cause__ or error),
        )
        return None


class _ConsumerLog:
    """What a listener asks of one consumer."""

    def __init__(
        self, consumer: Consumer, topic_ids: TopicIds, topics: Collection[str] = ()
    ) -> None:
        self._consumer = consumer
        self._topic_ids = topic_ids
        self._topics = topics
        self._asked = False
        self._ids: dict[str, bytes] = {}
        self.is_outdated = False
        """Whether a topic is another one by now than this consumer began with.

        librdkafka keeps the leader epoch that it knows, and passes by whatever the new topic's
        leaders say, whose epochs are lower: it reads nothing of it any more, and a seek, or being
        assigned again, does not help. [P1]
        """

    def topic_ids(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, bytes]:
        return self._compared(self._topic_ids.ask(topics, timeout_s=timeout_s))

    def changed_ids(self, topics: Collection[str], *, within_s: float) -> IdsAsOf:
        within_s, self._asked = within_s if self._asked else 0.0, True
        found = self._topic_ids.look({*self._topics, *topics}, within_s=within_s)
        self._compared(found.ids)
        return found

    def _compared(self, ids: Mapping[str, bytes]) -> Mapping[str, bytes]:
        for topic, now in ids.items():
            if now and self._ids.setdefault(topic, now) != now:
                self.is_outdated = True
        return ids

    def assignment(self) -> list[TopicPartition]:
        return _tps(self._consumer.assignment())

    def committed(
        self, tps: Iterable[TopicPartition], *, timeout_s: float
    ) -> dict[TopicPartition, Committed]:
        asked = [KafkaTopicPartition(*tp) for tp in tps]
        found: dict[TopicPartition, Committed] = {}
        for part in self._consumer.committed(asked, timeout=timeout_s):
            if part.error is not None:
                raise KafkaException(part.error)
            offset = part.offset if part.offset >= 0 else None
            found[TopicPartition(part.topic, part.partition)] = Committed(
                offset, part.metadata, part.leader_epoch
            )
        return found

    def ends(self, tps: Iterable[TopicPartition], *, timeout_s: float) -> dict[TopicPartition, int]:
        asked = list(tps)
        try:
            return self._ends(asked, timeout_s)
        except KafkaException:
            # One partition without a leader makes the client wait, for all of them.
            led = self._led(asked, timeout_s)
            if len(led) == len(asked):
                raise
            return self._ends(led, timeout_s)

    def _ends(self, tps: list[TopicPartition], timeout_s: float) -> dict[TopicPartition, int]:
        if not tps:
            return {}
        # One request to each broker. Asked one by one, each would wait for the fetch under way.
        asked = [KafkaTopicPartition(*tp, OFFSET_END) for tp in tps]
        found: dict[TopicPartition, int] = {}
        for part in self._consumer.offsets_for_times(asked, timeout=timeout_s):
            if part.error is not None:
                raise KafkaException(part.error)
            found[TopicPartition(part.topic, part.partition)] = part.offset
        return found

    def _led(self, tps: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
        topics = self._consumer.list_topics(timeout=timeout_s).topics
        leaders = {
            TopicPartition(topic.topic, one.id): one.leader
            for topic in topics.values()
            for one in topic.partitions.values()
        }
        return [tp for tp in tps if leaders.get(tp, _NO_LEADER) != _NO_LEADER]

    def pause(self, tps: Iterable[TopicPartition]) -> None:
        self._consumer.pause([KafkaTopicPartition(*tp) for tp in tps])

    def resume(self, tps: Iterable[TopicPartition]) -> None:
        self._consumer.resume([KafkaTopicPartition(*tp) for tp in tps])

    def seek(self, tp: TopicPartition, offset: int, *, leader_epoch: int | None = None) -> bool:
        epoch = -1 if leader_epoch is None else leader_epoch
        try:
            self._consumer.seek(KafkaTopicPartition(*tp, offset, leader_epoch=epoch))
        except KafkaException as error:
            if error_of(error).code() != KafkaError._STATE:
                raise
            return False
        return True

    def commit(self, offsets: Sequence[KafkaTopicPartition]) -> None:
        self._consumer.commit(offsets=list(offsets), asynchronous=True)

    def group(self) -> object:
        return self._consumer.consumer_group_metadata()
