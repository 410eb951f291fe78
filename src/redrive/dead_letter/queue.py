"""DeadLetterQueue: writes letters from a program that is no worker.

A worker's own letters are built in `redrive.consumer.outcome_builder`, and stored with their
offsets.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from pydantic_core import to_json

from redrive.aside import Aside, Late
from redrive.clock import SYSTEM, Clock
from redrive.codec import Codec
from redrive.dead_letter.failure_text import failure_text
from redrive.dead_letter.record import DeadLetter, LetterContext, Source
from redrive.dead_letter.redacted_text import Redactor, readable
from redrive.dead_letter.sealing import sealed_letter
from redrive.dead_letter.shortened import shortened
from redrive.errors import RecordError
from redrive.events import WorkflowEvent, readable_event_id
from redrive.json_texts import parsed_json
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.confirmed import ConfirmedProducer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.key_partition import partition_of_key
from redrive.payloads import Payloads
from redrive.retry import GiveUp, RetryConfig, classify, decide, reason_of
from redrive.retry.classifier import UNANSWERED
from redrive.retry.kinds import Failure, Reason
from redrive.sealed_records import seal_of_event, sealed_event

__all__ = ["DeadLetterQueue"]

UNKNOWN_OFFSET = -1
"""The offset of an event that lies on no topic, or nobody said where."""

_QUEUED = uuid.UUID("b0a5cf4e-5a2f-5d0c-8f49-3f0f8f1d6d55")
_NO_MORE_RETRIES = 10**9


class DeadLetterQueue:
    """Publishes dead letters, each confirmed by the broker; use it with `async with`.

    Args:
        bootstrap_servers: Brokers as host:port,host:port.
        topic: Where letters go; it must exist.
        config: Any librdkafka option: SASL, TLS.
        redact: Regular expressions of secrets of your own, masked in what errors say.
        events_topic: Where the events come from, for letters whose context does not say it.
        timeout: How long a letter may take to be stored, and a broker to answer at start.
        codec: Encrypts what letters say, as `security.codec` does for a worker, and an event that
            is given in clear. Bytes are kept as they are: those of a topic are encrypted already.
        clock: For the times in the letters.

    Raises:
        ValueError: One of `redact` is no regular expression.
    """

    def __init__(
        self,
        bootstrap_servers: str = "localhost:9092",
        topic: str = "workflow-events-dlq",
        *,
        config: Mapping[str, str] | None = None,
        redact: Sequence[str] = (),
        events_topic: str = "workflow-events",
        timeout: timedelta = timedelta(seconds=30),
        codec: Codec | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._payloads = Payloads(codec)
        settings = KafkaSettings(
            bootstrap_servers=bootstrap_servers,
            startup_timeout=timeout,
            config=dict(config or {}),
        )
        self._producer = ConfirmedProducer(settings, topic=topic, timeout=timeout, clock=clock)
        self._redactor = Redactor(tuple(redact))
        self._aside = Aside()
        self._made: set[asyncio.Future[None]] = set()
        self._timeout_s = timeout.total_seconds()
        self._events_topic = events_topic
        self._clock = clock

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaUnavailableError: No broker answered within the timeout.
            SettingsError: The topic does not exist, an option cannot work, or the broker refuses
                who we say we are.
        """
        await self._producer.start()

    async def stop(self) -> None:
        """Wait for what is under way, and close."""
        if self._made:
            # Each of them is known to the producer once it is made.
            await asyncio.wait(self._made, timeout=self._timeout_s)
        await self._producer.stop()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    async def publish_failed_event(
        self,
        original_event: WorkflowEvent | Mapping[str, Any] | bytes,
        error: BaseException,
        retry_count: int,
        context: Mapping[str, object] | None = None,
    ) -> str:
        """Store one letter and return its `dlq_id`, once the broker has confirmed it.

        The same event and `retry_count` give the same id: a letter that is published twice can be
        told. After an error it may be stored all the same; publishing it again is safe.

        Args:
            original_event: The event that failed; bytes are kept as they are.
            error: What it failed with; its kind and the reason are judged as a worker does.
            retry_count: How often it was tried again before.
            context: More for people, such as `workflow_id`. With `topic`, `partition` and `offset`
                it says where the event lies; else a redrive sends it to the partition of its key.

        Raises:
            KafkaUnavailableError: It was not confirmed in time.
            NotStoredError: The broker refused it, or this is not started.
            RecordError: The event, or the context, cannot be written as JSON.
        """
        value, about = _bytes_of(original_event, self._payloads), context or {}
        made = asyncio.get_running_loop().create_future()
        self._made.add(made)
        try:
            letter = await self._aside.call(
                lambda: self._letter(value, error, retry_count, about),
                workflow_id=original_event.workflow_id
                if isinstance(original_event, WorkflowEvent)
                else "",
            )
        finally:
            self._made.discard(made)
            made.cancel()
        if isinstance(letter, Late):
            letter = self._letter(value, error, retry_count, about, silent=True)
        await self._producer.store(
            self._record(letter),
            what=f"letter {letter.dlq_id}",
            smaller=[self._record(shorter) for shorter in shortened(letter)],
        )
        return letter.dlq_id

    def _letter(
        self,
        value: bytes,
        error: BaseException,
        retry_count: int,
        context: Mapping[str, object],
        *,
        silent: bool = False,
    ) -> DeadLetter:
        key = _key(value)
        failure, reason = (UNANSWERED, Reason.RETRIES_EXHAUSTED) if silent else _judged(error)
        original = _parsed(value)
        about = _context(original or {}, context)
        told = failure_text(
            error,
            kind=failure.kind,
            node=None,
            workflow_id=about.workflow_id,
            redactor=self._redactor,
            silent=silent,
        )
        return DeadLetter(
            dlq_id=self._id(key or hashlib.sha256(value).hexdigest(), retry_count),
            timestamp=self._clock.now(),
            original_event=original,
            error=told.error,
            retry_count=retry_count,
            context=about,
            kind=failure.kind,
            reason=reason,
            fingerprint=told.fingerprint,
            cause_chain=told.cause_chain,
            source=Source(
                topic=str(context.get("topic") or self._events_topic),
                partition=self._partition(key, context.get("partition")),
                offset=offset
                if isinstance(offset := context.get("offset"), int)
                else UNKNOWN_OFFSET,
                key=None if key is None else key.encode(),
                value=value,
            ),
        )

    def _id(self, identity: str, retry_count: int) -> str:
        return str(uuid.uuid5(_QUEUED, f"{self._producer.topic}/{identity}/{retry_count}"))

    def _partition(self, key: str | None, given: object) -> int:
        """Return the event's partition, which is the letter's: as it was given, else by its key."""
        there = sorted(self._producer.partitions)
        if isinstance(given, int) and given in there:
            return given
        count = len(there) or 1
        if key is None:
            return int(self._clock.random() * count)
        return partition_of_key(key.encode(), partitions=count)

    def _record(self, letter: DeadLetter) -> ProducerRecord:
        return ProducerRecord(
            topic=self._producer.topic,
            key=letter.source.key,
            value=sealed_letter(letter, self._payloads).to_bytes(),
            headers=tuple(letter.headers()),
            partition=letter.source.partition,
        )


def _judged(error: BaseException) -> tuple[Failure, Reason]:
    failure = classify(error)
    # It was given up already; asked is only how that is called.
    given_up = decide(
        failure,
        failed_attempts=_NO_MORE_RETRIES,
        policy=RetryConfig(),
        roll=0.0,
        reason=reason_of(error),
    )
    reason = given_up.reason if isinstance(given_up, GiveUp) else Reason.RETRIES_EXHAUSTED
    return failure, reason


def _bytes_of(event: WorkflowEvent | Mapping[str, Any] | bytes, payloads: Payloads) -> bytes:
    """Return the event's bytes; those of an event that is no bytes yet are made encrypted."""
    if isinstance(event, bytes):
        return event
    try:
        if isinstance(event, WorkflowEvent):
            return _sealed(event, payloads).to_bytes()
        # What JSON does not know, such as a date, is kept as text rather than lost.
        value = json.dumps(dict(event), default=str).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"the event cannot be written as JSON: {error}") from error
    if payloads.label is None:
        return value
    try:
        return _sealed(WorkflowEvent.from_bytes(value), payloads).to_bytes()
    except RecordError:
        return value  # no event, so nobody knows what of it is a payload


def _sealed(event: WorkflowEvent, payloads: Payloads) -> WorkflowEvent:
    return sealed_event(event, payloads) if seal_of_event(event) is None else event


def _key(value: bytes) -> str | None:
    event_id = readable_event_id(value)
    return None if event_id is None else readable(event_id)


def _parsed(value: bytes) -> dict[str, Any] | None:
    """Return the event as JSON that can be written again."""
    try:
        parsed = parsed_json(value)
        to_json(parsed)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _context(event: Mapping[str, Any], given: Mapping[str, object]) -> LetterContext:
    about = {name: event.get(name) for name in LetterContext.model_fields} | dict(given)
    try:
        text = json.dumps(about, default=str, ensure_ascii=False).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"the context cannot be written as JSON: {error}") from error
    plain = json.loads(text)
    named = {name: plain[name] for name in LetterContext.model_fields}
    texts = {name: None if found is None else str(found) for name, found in named.items()}
    return LetterContext.model_validate(plain | texts)
