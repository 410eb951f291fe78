"""What the end of a redriven run says about the letter that it came from."""

from __future__ import annotations

from datetime import datetime

from redrive.consumer.event_run import Run
from redrive.consumer.outcome import PolledRecord
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.events import EventPlace
from redrive.kafka.batches import ProducerRecord
from redrive.retry.kinds import Reason

__all__ = ["position_of", "states_after"]


def states_after(
    run: Run, state: State, *, reason: Reason | None, topic: str, worker: str, at: datetime
) -> tuple[ProducerRecord, ...]:
    """Return the state record of the letter behind `run`; nothing when there is none.

    It goes with the run's result, so that the letter is resolved exactly when the answer is there.
    """
    headers = run.headers
    if headers.of is None:
        return ()
    told = LetterState(
        dlq_id=headers.of,
        event_id=run.event.event_id,
        state=state,
        timestamp=at,
        actor=f"worker {worker}",
        reason=None if reason is None else reason.value,
        mode=headers.mode,
        redrive_count=headers.count,
        ended=position_of(run.polled),
    )
    record = ProducerRecord(
        topic=topic,
        key=run.polled.record.key,
        value=told.to_bytes(),
        headers=STATE_HEADERS,
        partition=run.polled.tp.partition,
    )
    return (record,)


def position_of(polled: PolledRecord) -> EventPlace:
    """Return where an event lies."""
    topic, partition = polled.tp
    return EventPlace(topic=topic, partition=partition, offset=polled.offset)
