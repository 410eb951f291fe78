"""ResultProducer: writes results from a program that is no worker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from redrive.clock import SYSTEM, Clock
from redrive.codec import Codec
from redrive.errors import RecordError
from redrive.events import ResultStatus, WorkflowResultEvent
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.confirmed import ConfirmedProducer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.payloads import Payloads
from redrive.sealed_records import sealed_result

__all__ = ["ResultProducer"]


class ResultProducer:
    """Publishes results, each confirmed by the broker; use it with `async with`.

    Args:
        bootstrap_servers: Brokers as host:port,host:port.
        topic: Where results go; it must exist.
        config: Any librdkafka option: SASL, TLS.
        timeout: How long a result may take to be stored, and a broker to answer at start.
        codec: Encrypts what results say, as `security.codec` does for a worker.
        clock: For the times in the results.
    """

    def __init__(
        self,
        bootstrap_servers: str = "localhost:9092",
        topic: str = "workflow-results",
        *,
        config: Mapping[str, str] | None = None,
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

    async def publish_result(
        self,
        correlation_id: str,
        workflow_id: str | None,
        workflow_run_id: str | None,
        result: object,
        status: ResultStatus | str,
        error: str | None = None,
    ) -> None:
        """Store one result; returns once the broker has confirmed it.

        Args:
            correlation_id: The event's id, by which its task waits.
            workflow_id: The event's.
            workflow_run_id: The event's.
            result: Any JSON.
            status: `success`, `failure` or `error`.
            error: What went wrong, for people.

        Raises:
            KafkaUnavailableError: It was not confirmed in time; it may be stored all the same.
            NotStoredError: The broker refused it, or this is not started.
            RecordError: One of the values cannot be in a result; the message names it.
        """
        try:
            answer = WorkflowResultEvent(
                correlation_id=correlation_id,
                workflow_id=workflow_id,
                workflow_run_id=workflow_run_id,
                result=result,
                status=ResultStatus(status),
                timestamp=self._clock.now(),
                error=error,
            )
            value = sealed_result(answer, self._payloads).to_bytes()
        except ValidationError as wrong:
            first = wrong.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise RecordError(f"field {field!r}: {first['msg']}", field=field) from wrong
        except PydanticSerializationError as wrong:
            raise RecordError(f"field 'result' is not JSON: {wrong}", field="result") from wrong
        except ValueError as wrong:
            raise RecordError(f"field 'status': {wrong}", field="status") from wrong
        record = ProducerRecord(self._producer.topic, key=correlation_id.encode(), value=value)
        await self._producer.store(record, what=f"the result of {correlation_id}")
