"""Publishing a spool: the letters of a file, those that their topic does not hold yet.

The file is a worker's spool, or what `redrive dlq export` wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic import ValidationError

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.spool import SpooledLetter, Torn, read_spool
from redrive.dead_letter.vouching import Vouched
from redrive.errors import (
    FencedError,
    KafkaUnavailableError,
    NotStoredError,
    RedriveError,
    SettingsError,
)
from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.kafka.existing import partitions_of
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.publish import NO_ANSWER, TOO_LARGE
from redrive.kafka.retrying import Said, error_of, with_advice
from redrive.redriving.letters_topic import Name, StoredLetter, letter_records, name_of, stored
from redrive.signatures import NO_TRUST, Verifier

__all__ = ["SpoolCounts", "publish_spool"]

BATCH = 500
"""Letters that one transaction holds, at most."""

_BATCH_BYTES = 4 * 2**20
# The topic decides what is too large; it measures whole batches of records with that limit.
_LARGEST_BYTES = 64 * 2**20
_RECORDS_BYTES = 64 * 2**10
_ABORT_S = 5.0
_LOOK_S = 0.05
_TOLD_LINES = 10
# What a record is told for the sake of another one of its batch.
_FOLLOWS = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._MSG_TIMED_OUT)
_ANY_PARTITION = -1
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """What came of a file's lines.

    Attributes:
        published: Letters that were stored now.
        already_there: Letters that the topic, or an earlier line, held.
        torn: Lines that are no letter.
        too_large: Letters that the topic does not take.
        first_torn: The numbers of the first of those that are no record at all, from 1 on.
    """

    published: int
    already_there: int
    torn: int
    too_large: int = 0
    first_torn: tuple[int, ...] = ()


def publish_spool(
    path: Path,
    settings: KafkaSettings,
    *,
    verifier: Verifier = NO_TRUST.verifier,
    clock: Clock = SYSTEM,
) -> SpoolCounts:
    """Store the letters of a spool that `kafka.dlq_topic` does not hold yet.

    A letter that lies there and that nobody vouches for, as `verifier` says, keeps no other away.

    Safe to run again, also after it was cut, and by two at a time: the later one goes on. A letter
    keeps its key, headers, bytes and, where the topic has it, its partition.

    Raises:
        FencedError: Another import of this topic began meanwhile.
        KafkaUnavailableError: No broker answered in time; what was stored before stays.
        NotStoredError: The broker refused letters, not for their size; what was stored before
            stays.
        SettingsError: The file or the topic is not there, or the broker refuses who we say we are.
    """
    partitions = partitions_of(settings, settings.dlq_topic, clock=clock)
    reading = _Reading(path)
    published = too_large = 0
    with _sink(settings, partitions) as sink:
        # Only now: whoever began before is fenced, and all that it stored is seen.
        seen = _on_topic(settings, verifier, clock)
        for batch in _batches(reading.new_letters(seen)):
            stored_now = _store(sink, batch)
            published += stored_now
            too_large += len(batch) - stored_now
    return SpoolCounts(
        published=published,
        already_there=reading.already_there,
        torn=reading.torn,
        too_large=too_large,
        first_torn=tuple(reading.first_torn),
    )


class _Reading:
    """The lines of a file, counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.already_there = 0
        self.torn = 0
        self.first_torn: list[int] = []
        if not path.is_file():
            raise SettingsError(f"there is no file {path}")

    def new_letters(self, seen: dict[Name, datetime]) -> Iterator[SpooledLetter]:
        try:
            for line in read_spool(self._path):
                letter = None if isinstance(line, Torn) else _whole(line)
                if isinstance(line, Torn) or letter is None:
                    self.torn += 1
                    if isinstance(line, Torn) and len(self.first_torn) < _TOLD_LINES:
                        self.first_torn.append(line.line)
                elif _is_known(letter, seen):
                    self.already_there += 1
                else:
                    seen[name_of(letter)] = letter.timestamp
                    yield line
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be read: {error}") from error


def _is_known(letter: DeadLetter, seen: Mapping[Name, datetime]) -> bool:
    """Say whether it is stored; one that was given up later than what is stored is not."""
    stored_at = seen.get(name_of(letter))
    return stored_at is not None and letter.timestamp <= stored_at


def _whole(line: SpooledLetter) -> DeadLetter | None:
    """Return the letter, if the record is the one that the line says it is."""
    try:
        letter = DeadLetter.model_validate_json(line.value)
    except ValidationError:
        return None
    return letter if letter.dlq_id == line.dlq_id else None


def _on_topic(settings: KafkaSettings, verifier: Verifier, clock: Clock) -> dict[Name, datetime]:
    """Return the letters that are stored, each with the latest time at which it was given up."""
    seen: dict[Name, datetime] = {}
    with closing(letter_records(settings, clock=clock)) as records:
        for record in records:
            found = stored(record, verifier)
            if not isinstance(found, StoredLetter) or found.vouched is Vouched.LETTER_NOT:
                continue
            if not _is_known(found.letter, seen):
                seen[name_of(found.letter)] = found.letter.timestamp
    return seen


def _batches(letters: Iterable[SpooledLetter]) -> Iterator[list[SpooledLetter]]:
    batch: list[SpooledLetter] = []
    size = 0
    for letter in letters:
        batch.append(letter)
        size += len(letter.value)
        if len(batch) >= BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Sink:
    """Where letters go: the one producer of imports to this topic."""

    def __init__(self, settings: KafkaSettings, partitions: frozenset[int], said: Said) -> None:
        self.settings = settings
        self.partitions = partitions
        self._said = said
        self.producer = self._opened()

    def renew(self) -> None:
        """Go on with another producer: after an abort, one can lose records (decision 22)."""
        self.producer = self._opened()

    def _opened(self) -> Producer:
        config = producer_config(
            self.settings,
            transactional_id=f"redrive.{self.settings.dlq_topic}.import",
            max_message_bytes=_LARGEST_BYTES,
            max_batch_bytes=_RECORDS_BYTES,
        )
        # What could not even begin is told by its errors.
        self.producer = make_producer(config, on_error=self._said)
        try:
            self.producer.init_transactions(_limit_s(self.settings))
        except KafkaException:
            self.producer.poll(0)
            raise
        return self.producer


@contextmanager
def _sink(settings: KafkaSettings, partitions: frozenset[int]) -> Iterator[_Sink]:
    """Open it, and tell what its errors mean."""
    said = Said(settings.bootstrap_servers)
    sink: _Sink | None = None
    try:
        sink = _Sink(settings, partitions, said)
        yield sink
    except KafkaException as exception:
        if sink is not None:
            sink.producer.poll(0)
        error = said.refusal or _failed(settings, said.cause(error_of(exception)))
        if sink is not None:
            # Else it holds the readers of the topic back until its time is over (R18).
            with suppress(KafkaException):
                sink.producer.abort_transaction(_ABORT_S)
        raise error from exception


def _store(sink: _Sink, batch: Sequence[SpooledLetter]) -> int:
    """Return how many of a batch are stored; the others are too large for the topic."""
    suspects = _refused_for_size(sink, batch)
    if not suspects:
        return len(batch)
    if len(batch) == 1:
        return 0
    # The broker refuses whole batches of records: which one it was, each says by itself (R4).
    rest = [letter for letter in batch if letter.dlq_id not in suspects]
    alone = [letter for letter in batch if letter.dlq_id in suspects]
    return (_store(sink, rest) if rest else 0) + sum(_store(sink, [letter]) for letter in alone)


def _refused_for_size(sink: _Sink, batch: Sequence[SpooledLetter]) -> set[str]:
    """Store all of a batch, or nothing: then return which may be too large.

    Raises:
        KafkaException: It is not stored for another reason.
    """
    refused = _in_transaction(sink, batch)
    suspects = {dlq_id for dlq_id, error in refused.items() if error.code() in TOO_LARGE}
    if refused and not suspects:
        told = [error for error in refused.values() if error.code() not in _FOLLOWS]
        raise KafkaException(next(iter(told), next(iter(refused.values()))))
    return suspects


def _in_transaction(sink: _Sink, batch: Sequence[SpooledLetter]) -> dict[str, KafkaError]:
    """Commit, or abort and return the errors."""
    refused: dict[str, KafkaError] = {}
    limit_s = _limit_s(sink.settings)
    sink.producer.begin_transaction()
    for letter in batch:
        try:
            _produce(sink, letter, refused)
        except KafkaException as exception:
            refused[letter.dlq_id] = error_of(exception)
    _flush(sink, refused, limit_s)
    if refused:
        # Not without it: whoever was fenced by another import learns of it here.
        sink.producer.abort_transaction(limit_s)
        sink.renew()
    else:
        sink.producer.commit_transaction(limit_s)
    return refused


def _flush(sink: _Sink, refused: Mapping[str, KafkaError], limit_s: float) -> None:
    """Wait for all answers, or for the first refusal: what follows it on its partition waits."""
    deadline = SYSTEM.monotonic() + limit_s
    while sink.producer.flush(_LOOK_S) and not refused and SYSTEM.monotonic() < deadline:
        pass


def _produce(sink: _Sink, letter: SpooledLetter, refused: dict[str, KafkaError]) -> None:
    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.setdefault(letter.dlq_id, error)

    sink.producer.produce(
        sink.settings.dlq_topic,
        value=letter.value,
        key=letter.key,
        headers=list(letter.headers),
        partition=letter.partition if letter.partition in sink.partitions else _ANY_PARTITION,
        on_delivery=report,
    )


def _failed(settings: KafkaSettings, error: KafkaError) -> RedriveError:
    topic = settings.dlq_topic
    if error.code() in _FENCED:
        return FencedError(
            f"another import to {topic!r} has started: let it finish, then run this again"
        )
    if error.code() in NO_ANSWER:
        return KafkaUnavailableError(
            f"Kafka at {settings.bootstrap_servers} did not confirm letters on {topic!r} in time: "
            f"{with_advice(error)}. Run it again: what is stored is not stored twice"
        )
    return NotStoredError(f"letters are not stored on {topic!r}: {with_advice(error)}")


def _limit_s(settings: KafkaSettings) -> float:
    return settings.startup_timeout.total_seconds()
