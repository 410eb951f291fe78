"""The demo's DAG: what a data engineer writes. Its tasks meet a success, hiccups, and a refusal."""

from __future__ import annotations

from airflow.sdk import DAG

from redrive.airflow import LangGraphOperator

__all__ = ["dag"]

with DAG("redrive_demo", schedule=None) as dag:
    succeeds = LangGraphOperator(
        task_id="succeeds",
        workflow_id="demo",
        data={"topic": "tides"},
        timeout="60s",
    )
    recovers = LangGraphOperator(
        task_id="recovers",
        workflow_id="demo",
        data={"topic": "volcanoes", "trouble": "hiccups"},
        timeout="60s",
    )
    is_refused = LangGraphOperator(
        task_id="is_refused",
        workflow_id="demo",
        data={"topic": "secrets"},
        timeout="60s",
    )
    succeeds >> recovers >> is_refused
