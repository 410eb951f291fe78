"""What a data engineer writes, once for each ending; `dag.test()` runs it whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import DAG, Context, TriggerRule, task
from airflow.triggers.base import BaseTrigger

from redrive.airflow import (
    LangGraphOperator,
    LangGraphResultTrigger,
    trigger_langgraph_workflow,
)
from redrive.clock import SYSTEM
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.kafka_settings import KafkaSettings

REPORT = Path(os.environ["REPORT_FOLDER"])


def note_failure(context: Mapping[str, Any]) -> None:
    error, ti = context["exception"], context["ti"]
    names = ("kind", "reason", "node", "attempts", "dlq_id", "event_id")
    facts = {name: getattr(error, name, None) for name in names}
    facts |= {"class": type(error).__name__, "text": str(error), "try": ti.try_number}
    facts["at"] = SYSTEM.now().timestamp()
    (REPORT / f"{ti.task_id}.failed.json").write_text(json.dumps(facts))


class AnsweredEarly(LangGraphOperator):
    """Begins to wait only when its answer is on the topic already."""

    def defer(
        self,
        *,
        trigger: BaseTrigger,
        method_name: str,
        kwargs: dict[str, Any] | None = None,
        timeout: timedelta | float | None = None,
    ) -> NoReturn:
        assert isinstance(trigger, LangGraphResultTrigger)
        extra = json.loads(os.environ["AIRFLOW_CONN_KAFKA_DEFAULT"])["extra"]
        settings = KafkaSettings(
            bootstrap_servers=extra["bootstrap.servers"], results_topic=trigger.results_topic
        )
        for _ in range(300):
            if end_offsets(settings) != dict(trigger.offsets):
                break
            SYSTEM.block(0.1)
        (REPORT / "fire_after").write_text(str(trigger.fire_after_ms))
        super().defer(trigger=trigger, method_name=method_name, kwargs=kwargs, timeout=timeout)

    def execute_complete(self, context: Context, event: dict[str, object]) -> object:
        (REPORT / "resumed_at").write_text(str(round(SYSTEM.now().timestamp() * 1000)))
        return super().execute_complete(context, event)


with DAG("agents", schedule=None, default_args={"on_failure_callback": note_failure}) as dag:
    succeeds = LangGraphOperator(
        task_id="succeeds",
        workflow_id="agent",
        data={"do": "answer", "text": "from {{ dag.dag_id }}"},
        timeout="60s",
    )
    waits_inline = LangGraphOperator(
        task_id="waits_inline",
        workflow_id="agent",
        data={"do": "answer", "text": "inline"},
        timeout=60,
        deferrable=False,
        thread="of-{{ dag.dag_id }}",
        metadata={"langgraph": {"tags": ["of {{ dag.dag_id }}"]}},
        headers={"x-dag": "{{ dag.dag_id }}"},
        config={"user_id": "{{ dag.dag_id }}"},
    )
    answered_early = AnsweredEarly(
        task_id="answered_early",
        workflow_id="agent",
        data={"do": "answer", "text": "early"},
        timeout=60,
        wait_first=0,
    )
    fails_for_good = LangGraphOperator(
        task_id="fails_for_good",
        workflow_id="agent",
        data={"do": "refuse", "text": ""},
        retries=2,
        retry_delay=0,
    )
    is_exhausted = LangGraphOperator(
        task_id="is_exhausted",
        workflow_id="agent",
        data={"do": "break", "text": ""},
        retries=1,
        retry_delay=0,
    )
    has_no_retries = LangGraphOperator(
        task_id="has_no_retries", workflow_id="agent", data={"do": "break", "text": ""}
    )
    lingers = LangGraphOperator(
        task_id="lingers", workflow_id="agent", data={"do": "linger", "text": ""}, timeout=20
    )
    gets_no_answer = LangGraphOperator(
        task_id="gets_no_answer",
        workflow_id="agent",
        data={"do": "answer", "text": ""},
        timeout=1,
        events_topic=os.environ["UNREAD_TOPIC"],
    )
    mapped = LangGraphOperator.partial(task_id="mapped", workflow_id="agent", timeout=60).expand(
        data=[{"do": "answer", "text": "a"}, {"do": "answer", "text": "b"}]
    )

    @task.langgraph(workflow_id="agent", timeout=60)
    def decorated(text: str) -> dict[str, Any]:
        return {"do": "answer", "text": text + " {{ run_id }}"}

    @task
    def question() -> str:
        return "of a task before"

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def report(results: dict[str, Any]) -> None:
        found = results | {"mapped": list(results["mapped"])}
        (REPORT / "results.json").write_text(json.dumps(found))

    results = {
        "succeeds": succeeds.output,
        "waits_inline": waits_inline.output,
        "answered_early": answered_early.output,
        "mapped": mapped.output,
        "decorated": decorated("as it is"),
        "taskflow": trigger_langgraph_workflow(
            {"do": "answer", "text": question()}, workflow_id="agent", timeout=60
        ),
        "by_dag_id": trigger_langgraph_workflow({"do": "answer", "text": "by dag"}),
    }
    report(results)


if __name__ == "__main__":
    run = dag.test()
    states = {f"{ti.task_id}[{ti.map_index}]": ti.state for ti in run.get_task_instances()}
    (REPORT / "states.json").write_text(json.dumps(states))
