"""The task that starts a graph and waits for its end: `LangGraphOperator`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from redrive.airflow.compat import BaseOperator, Context, XComArg, connection_extra
from redrive.airflow.connection import id_secret, kafka_settings, signer_of
from redrive.airflow.host_settings import host_security
from redrive.airflow.requests import EventExtras, Request, request_of
from redrive.airflow.run_answers import FailedRun, heard, judge, not_heard
from redrive.airflow.run_errors import error_of
from redrive.airflow.triggers import ANSWER_GRACE, NEWS_OF_DEFERRAL, LangGraphResultTrigger
from redrive.airflow.xcom_results import shared_reader
from redrive.clock import SYSTEM
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.expected import Expected
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.publish import Published, publish_event
from redrive.units import named_duration

__all__ = ["LangGraphOperator"]

NO_RETRIES = 0
"""The worker retries by itself, from the node that failed."""

BACKSTOP = timedelta(minutes=2)
"""Past the trigger's own deadline: only a triggerer that is gone leaves it to Airflow."""


class LangGraphOperator(BaseOperator):
    """Runs a graph on a redrive worker and returns its result (as XCom).

    A run that fails fails the task, with `LangGraphRunError`: it carries kind, reason, node,
    attempts and the dead letter's id. A failure that no further try mends fails it at once.

    **`retries` is 0 unless you set it** (here or in `default_args`). The worker retries by itself,
    from the node that failed, and gives up only when that cannot help: a retry of the task on top
    multiplies the attempts. When you do set it, each try sends the same event id, so a try
    goes on where the last one stopped.

    Args:
        workflow_id: Which graph; the name under which the workers know it. (templated)
        data: The graph's input, a dict of what JSON can hold. (templated)
        timeout: How long the result is wanted: seconds, `5m`, or a timedelta. It travels with the
            event, and the worker ends the run when it is over.
        kafka_conn_id: A connection of type `kafka`.
        deferrable: Wait in the triggerer (default), or in the worker's slot.
        wait_first: How long a deferrable task waits in its slot before it defers; 0 defers at
            once. A run that ends meanwhile is answered sooner than any deferral could, and never
            meets Airflow's race between a deferral and its resumption (apache/airflow#72716). A
            task that is answered within 10 s of its deferral is resumed when they are over, for
            the same reason: that makes the race rare, not impossible. `deferrable=False` has none.
        thread: The LangGraph thread of the run, by a name of yours: runs of one name go on from
            each other's state, one after the other. Default: a thread of the run's own. (templated)
        metadata: Goes into the event's `metadata`; its `langgraph` can give the run a `context`,
            `metadata` and `tags`. (templated)
        headers: Headers of the event's record, text by name. (templated)
        config: Goes into the event's `payload.config`; of it the run gets what
            `graphs.<id>.configurable` names. (templated)
        events_topic: Default: `KAFKA_WORKFLOW_EVENTS_TOPIC`, else `workflow-events`.
        results_topic: Default: `KAFKA_WORKFLOW_RESULTS_TOPIC`, else `workflow-results`.
    """

    template_fields: Sequence[str] = (
        "workflow_id",
        "data",
        "thread",
        "metadata",
        "headers",
        "config",
        "kafka_conn_id",
        "events_topic",
        "results_topic",
    )
    template_fields_renderers = dict.fromkeys(("data", "metadata", "headers", "config"), "json")

    def __init__(  # noqa: PLR0913 - one argument per thing a task may want otherwise
        self,
        *,
        workflow_id: str | None,
        data: Mapping[str, Any] | XComArg | str,
        timeout: float | str | timedelta = 300,
        kafka_conn_id: str = "kafka_default",
        deferrable: bool = True,
        wait_first: float | str | timedelta = 10,
        thread: str | None = None,
        metadata: Mapping[str, Any] | XComArg | str | None = None,
        headers: Mapping[str, str] | XComArg | str | None = None,
        config: Mapping[str, Any] | XComArg | str | None = None,
        events_topic: str | None = None,
        results_topic: str | None = None,
        retries: int = NO_RETRIES,
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, **kwargs)
        self.workflow_id = workflow_id
        self.data = data
        self.timeout = named_duration("timeout", timeout)
        self.kafka_conn_id = kafka_conn_id
        self.deferrable = deferrable
        self.wait_first = named_duration("wait_first", wait_first)
        self.thread = thread
        self.metadata = metadata
        self.headers = headers
        self.config = config
        self.events_topic = events_topic
        self.results_topic = results_topic

    def execute(self, context: Context) -> object:
        """Send the event and wait for its result."""
        return self._run(context, workflow_id=self.workflow_id, data=self.data)

    def execute_complete(self, context: Context, event: dict[str, object]) -> object:
        """Take the trigger's answer: return the result, or raise."""
        del context
        run = judge(event, host_security().payloads())
        if isinstance(run, FailedRun):
            # Its text is the line of the task's log that names the letter.
            raise error_of(run)
        self.log.info("event_id=%s ended: success", event.get("event_id"))
        return run.result

    def _run(
        self,
        context: Context,
        *,
        workflow_id: str | None,
        data: object,
        timeout: timedelta | None = None,
    ) -> object:
        task = context["ti"]
        extra = connection_extra(self.kafka_conn_id)
        settings = kafka_settings(
            extra,
            conn_id=self.kafka_conn_id,
            events_topic=self.events_topic,
            results_topic=self.results_topic,
        )
        request = request_of(
            task,
            workflow_id=workflow_id or task.dag_id,
            data=data,
            timeout=timeout or self.timeout,
            now=SYSTEM.now(),
            beside=EventExtras(
                thread=self.thread,
                metadata=self.metadata,
                headers=self.headers,
                config=self.config,
            ),
            id_secret=id_secret(extra, conn_id=self.kafka_conn_id),
        )
        # The order is the guarantee: an answer that comes at once still stands behind these.
        offsets = end_offsets(settings)
        published = publish_event(
            settings,
            request.event,
            headers=request.headers,
            extra=request.extra_headers,
            payloads=host_security().payloads(),
            signer=signer_of(extra, conn_id=self.kafka_conn_id),
        )
        self.log.info(
            "event_id=%s for workflow %r is stored at %s; its result is wanted until %s",
            request.event.event_id,
            request.event.workflow_id,
            published,
            request.deadline.isoformat(timespec="seconds"),
        )
        answer = self._wait_here(request, settings, offsets, published)
        if answer is None:
            self._defer(request, settings, offsets, published)
        return self.execute_complete(context, answer)

    def _defer(
        self,
        request: Request,
        settings: KafkaSettings,
        offsets: Mapping[int, int],
        published: Published,
    ) -> NoReturn:
        now = SYSTEM.now()
        left = request.deadline - now
        self.defer(
            trigger=LangGraphResultTrigger(
                kafka_conn_id=self.kafka_conn_id,
                results_topic=settings.results_topic,
                event_id=request.event.event_id,
                offsets=sorted(offsets.items()),
                deadline_ms=request.deadline_ms,
                fire_after_ms=round((now + NEWS_OF_DEFERRAL).timestamp() * 1000),
                asked=[published.topic, published.partition, published.offset],
                workflow_id=request.event.workflow_id,
                workflow_run_id=request.event.workflow_run_id,
            ),
            method_name="execute_complete",
            timeout=max(left, timedelta()) + ANSWER_GRACE + BACKSTOP,
        )

    def _wait_here(
        self,
        request: Request,
        settings: KafkaSettings,
        offsets: Mapping[int, int],
        published: Published,
    ) -> dict[str, object] | None:
        """Wait in the slot; None when the rest of the wait is the triggerer's."""
        if self.deferrable and not self.wait_first:
            return None
        event, latest = request.event, request.deadline + ANSWER_GRACE
        until = min(latest, SYSTEM.now() + self.wait_first) if self.deferrable else latest
        expected = Expected(
            event.event_id,
            event.workflow_id,
            event.workflow_run_id,
            record=published,
            must_name_record=settings.require_answers,
        )
        try:
            return heard(shared_reader(settings).wait_in_thread(expected, offsets, until))
        except TimeoutError as error:
            return None if until < latest else not_heard(event.event_id, str(error))
