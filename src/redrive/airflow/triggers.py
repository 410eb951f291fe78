"""Waiting in the triggerer for one run's result: no worker slot is held meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from redrive.airflow.compat import BaseTrigger, TriggerEvent, connection_extra_async
from redrive.airflow.connection import kafka_settings
from redrive.airflow.run_answers import heard, not_heard
from redrive.airflow.xcom_results import shared_reader
from redrive.clock import SYSTEM, moment
from redrive.kafka.expected import Expected
from redrive.kafka.publish import Published

__all__ = ["ANSWER_GRACE", "NEWS_OF_DEFERRAL", "LangGraphResultTrigger"]

ANSWER_GRACE = timedelta(seconds=5)
"""Past the deadline: the worker answers *at* the deadline, and its answer names the letter."""


NEWS_OF_DEFERRAL = timedelta(seconds=10)
"""How long a deferred task is not resumed: Airflow's scheduler may fail one that is resumed before
it has heard of the deferral (apache/airflow#72716). That takes several seconds at times; 27 s were
reported (#67287), so that this makes the race rare, not impossible."""


class LangGraphResultTrigger(BaseTrigger):
    """Fires once: with the run's result, or with `timeout` after the deadline.

    All of these in one triggerer share one Kafka reader. The connection's secrets are looked up
    where they are used and never stored with the trigger. [P15]

    Args:
        kafka_conn_id: A connection of type `kafka`.
        results_topic: Where the answer comes.
        event_id: Whose answer.
        offsets: Per partition, as pairs, where the topic ended before the event was published.
        deadline_ms: Epoch milliseconds after which nobody wants the answer.
        fire_after_ms: Epoch milliseconds before which it does not fire, though the answer is
            there: see `NEWS_OF_DEFERRAL`. It costs a run that ends soon after its task deferred up
            to 10 s; never more, also when this host's clock differs from the task's.
        asked: Topic, partition and offset of the event: another try of the task sends the same
            event, and its answer is not this one's. None in triggers of earlier versions.
        workflow_id: Of the event; None in triggers of earlier versions, which do not ask for it.
        workflow_run_id: Of the event; None as above.
    """

    def __init__(  # noqa: PLR0913 - one argument per thing that is serialized
        self,
        *,
        kafka_conn_id: str,
        results_topic: str,
        event_id: str,
        offsets: Sequence[Sequence[int]],
        deadline_ms: int,
        fire_after_ms: int = 0,
        asked: Sequence[str | int] | None = None,
        workflow_id: str | None = None,
        workflow_run_id: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.kafka_conn_id = kafka_conn_id
        self.results_topic = results_topic
        self.event_id = event_id
        self.offsets = [(partition, offset) for partition, offset in offsets]
        self.deadline_ms = deadline_ms
        self.fire_after_ms = fire_after_ms
        self.asked = None if asked is None else list(asked)
        self.workflow_id = workflow_id
        self.workflow_run_id = workflow_run_id

    def serialize(self) -> tuple[str, dict[str, object]]:
        """Return what it takes to make this trigger again elsewhere."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "kafka_conn_id": self.kafka_conn_id,
                "results_topic": self.results_topic,
                "event_id": self.event_id,
                "offsets": [list(pair) for pair in self.offsets],
                "deadline_ms": self.deadline_ms,
                "fire_after_ms": self.fire_after_ms,
                "asked": self.asked,
                "workflow_id": self.workflow_id,
                "workflow_run_id": self.workflow_run_id,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        extra = await connection_extra_async(self.kafka_conn_id)
        settings = kafka_settings(
            extra, conn_id=self.kafka_conn_id, results_topic=self.results_topic
        )
        reader = shared_reader(settings)
        deadline = moment(self.deadline_ms) + ANSWER_GRACE
        # After a time without a triggerer the deadline may be over, and the answer there.
        latest = max(deadline, SYSTEM.now() + ANSWER_GRACE)
        expected = Expected(
            self.event_id,
            self.workflow_id,
            self.workflow_run_id,
            record=_published(self.asked),
            must_name_record=settings.require_answers,
        )
        try:
            answer = heard(await reader.wait_for(expected, dict(self.offsets), latest))
        except TimeoutError as error:
            answer = not_heard(self.event_id, str(error))
        early_s = self.fire_after_ms / 1000 - SYSTEM.now().timestamp()
        if early_s > 0:
            await SYSTEM.sleep(min(early_s, NEWS_OF_DEFERRAL.total_seconds()))
        yield TriggerEvent(answer)  # type: ignore[no-untyped-call]  # Airflow's


def _published(asked: Sequence[str | int] | None) -> Published | None:
    if asked is None:
        return None
    topic, partition, offset = asked
    return Published(str(topic), int(partition), int(offset))
