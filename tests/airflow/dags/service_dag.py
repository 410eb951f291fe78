"""What runs under Airflow's own scheduler and triggerer: both endings, and an early answer."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from redrive.airflow import LangGraphOperator

with DAG("service", schedule=None):
    LangGraphOperator(
        task_id="succeeds",
        workflow_id="agent",
        data={"do": "answer", "text": "through the triggerer"},
        timeout=120,
        wait_first=0,
    )
    LangGraphOperator(
        task_id="fails_for_good",
        workflow_id="agent",
        data={"do": "refuse", "text": ""},
        timeout=120,
        wait_first=0,
        retries=2,
        retry_delay=timedelta(0),
    )

    LangGraphOperator(
        task_id="answered_in_its_slot",
        workflow_id="agent",
        data={"do": "answer", "text": "at once"},
        timeout=120,
    )

with DAG("early", schedule=None):
    LangGraphOperator(
        task_id="answered_early",
        workflow_id="agent",
        data={"do": "answer", "text": "early"},
        timeout=120,
        wait_first=0,
    )
