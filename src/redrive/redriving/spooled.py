"""Publishing a spool: the letters of a file, those that their topic does not hold yet.

The file is a worker's spool, or what `redrive dlq export` wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic import ValidationError

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.spool import SpooledLetter, Torn, read_spool
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
from redrive.kafka.options import KafkaSettings
from redrive.kafka.publish import NO_ANSWER
from redrive.kafka.retrying import Said, error_of, with_advice
from redrive.redriving.letters import StoredLetter, letter_records, stored

__all__ = ["SpoolCounts", "publish_spool"]

BATCH = 500
"""Letters that one transaction holds, at most."""

_BATCH_BYTES = 4 * 2**20
_LARGEST_BYTES = 64 * 2**20
_ANY_PARTITION = -1
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)  # noqa: SLF001 - the client's name for it


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """What came of a file's lines.

    Attributes:
        published: Letters that were stored now.
        already_there: Letters that the topic, or an earlier line, held.
        torn: Lines that are no letter.
    """

    published: int
    already_there: int
    torn: int


def publish_spool(path: Path, settings: KafkaSettings, *, clock: Clock = SYSTEM) -> SpoolCounts:
    """Store the letters of a spool that `kafka.dlq_topic` does not hold yet.

    Safe to run again, also after it was cut, and by two at a time: the later one goes on. A letter
    keeps its key, headers, bytes and, where the topic has it, its partition.

    Raises:
        FencedError: Another import of this topic began meanwhile.
        KafkaUnavailableError: No broker answered in time; what was stored before stays.
        NotStoredError: The broker refused a letter; what was stored before stays.
        SettingsError: The file or the topic is not there, or the broker refuses who we say we are.
    """
    partitions = partitions_of(settings, settings.dlq_topic, clock=clock)
    reading = _Reading(path)
    published = 0
    with _producer(settings) as producer:
        # Only now: whoever began before is fenced, and all that it stored is seen.
        seen = _ids_on_topic(settings, clock)
        for batch in _batches(reading.new_letters(seen)):
            _store(producer, settings, batch, partitions)
            published += len(batch)
    return SpoolCounts(published=published, already_there=reading.already_there, torn=reading.torn)


class _Reading:
    """The lines of a file, counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.already_there = 0
        self.torn = 0
        if not path.is_file():
            raise SettingsError(f"there is no file {path}")

    def new_letters(self, seen: set[str]) -> Iterator[SpooledLetter]:
        try:
            for line in read_spool(self._path):
                if isinstance(line, Torn) or not _is_whole(line):
                    self.torn += 1
                elif line.dlq_id in seen:
                    self.already_there += 1
                else:
                    seen.add(line.dlq_id)
                    yield line
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be read: {error}") from error


def _is_whole(line: SpooledLetter) -> bool:
    """Say whether the record is the letter that the line says it is."""
    try:
        return DeadLetter.model_validate_json(line.value).dlq_id == line.dlq_id
    except ValidationError:
        return False


def _ids_on_topic(settings: KafkaSettings, clock: Clock) -> set[str]:
    with closing(letter_records(settings, clock=clock)) as records:
        found = (stored(record) for record in records)
        return {one.letter.dlq_id for one in found if isinstance(one, StoredLetter)}


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


@contextmanager
def _producer(settings: KafkaSettings) -> Iterator[Producer]:
    """Open the one producer of imports to this topic, and tell what its errors mean."""
    said = Said(settings.bootstrap_servers)
    config = producer_config(
        settings,
        transactional_id=f"redrive.{settings.dlq_topic}.import",
        max_message_bytes=_LARGEST_BYTES,
    )
    producer = make_producer(config, on_error=said)
    try:
        producer.init_transactions(_limit_s(settings))
        yield producer
    except KafkaException as exception:
        producer.poll(0)
        raise said.refusal or _failed(settings, said.cause(error_of(exception))) from exception


def _store(
    producer: Producer,
    settings: KafkaSettings,
    batch: Sequence[SpooledLetter],
    partitions: frozenset[int],
) -> None:
    refused: list[tuple[str, KafkaError]] = []
    producer.begin_transaction()
    for letter in batch:
        try:
            _produce(producer, settings.dlq_topic, letter, partitions, refused)
        except KafkaException as exception:
            refused.append((letter.dlq_id, error_of(exception)))
    producer.flush(_limit_s(settings))
    if refused:
        producer.abort_transaction(_limit_s(settings))
        dlq_id, error = refused[0]
        if error.code() in _FENCED:
            raise KafkaException(error)
        raise NotStoredError(
            f"letter {dlq_id} is not stored on {settings.dlq_topic!r}: {with_advice(error)}"
        )
    producer.commit_transaction(_limit_s(settings))


def _produce(
    producer: Producer,
    topic: str,
    letter: SpooledLetter,
    partitions: frozenset[int],
    refused: list[tuple[str, KafkaError]],
) -> None:
    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append((letter.dlq_id, error))

    producer.produce(
        topic,
        value=letter.value,
        key=letter.key,
        headers=list(letter.headers),
        partition=letter.partition if letter.partition in partitions else _ANY_PARTITION,
        on_delivery=report,
    )


def _failed(settings: KafkaSettings, error: KafkaError) -> RedriveError:
    topic = settings.dlq_topic
    if error.code() in _FENCED:
        return FencedError(f"another import to {topic!r} began: let it go on, then run this again")
    if error.code() in NO_ANSWER:
        return KafkaUnavailableError(
            f"Kafka at {settings.bootstrap_servers} did not confirm letters on {topic!r} in time: "
            f"{with_advice(error)}. Run it again: what is stored is not stored twice"
        )
    return NotStoredError(f"letters are not stored on {topic!r}: {with_advice(error)}")


def _limit_s(settings: KafkaSettings) -> float:
    return settings.startup_timeout.total_seconds()
