"""What runs under Airflow's own scheduler and triggerer: both endings, and an early answer."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from redrive.airflow import LangGraphOperator

# Airflow takes a task that is resumed within seconds of its deferral for failed, when the news of
# the deferral reaches the scheduler late (apache/airflow#72716). So the agent takes its time here.
TAKES_S = 4

with DAG("service", schedule=None):
    LangGraphOperator(
        task_id="succeeds",
        workflow_id="agent",
        data={"do": "answer", "text": "through the triggerer", "takes_s": TAKES_S},
        timeout=120,
    )
    LangGraphOperator(
        task_id="fails_for_good",
        workflow_id="agent",
        data={"do": "refuse", "text": "", "takes_s": TAKES_S},
        timeout=120,
        retries=2,
        retry_delay=timedelta(0),
    )

with DAG("early", schedule=None):
    LangGraphOperator(
        task_id="answered_early",
        workflow_id="agent",
        data={"do": "answer", "text": "early"},
        timeout=120,
    )
