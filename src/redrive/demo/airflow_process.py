"""Airflow's part, in a process of its own: makes a database, runs the DAG with `dag.test()`.

What happens goes to a file as JSON lines, for the demo to read; Airflow's own logs go wherever this
process writes to. The DAG itself is `dag.py`, and knows nothing of this.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redrive.clock import SYSTEM

__all__ = ["REPORT_FILE", "main"]

REPORT_FILE = "DEMO_AIRFLOW_REPORT"
"""The environment variable that names the file for the JSON lines."""

_ERROR_FACTS = ("kind", "reason", "node", "attempts", "dlq_id")


def main() -> None:
    """Run the DAG once, from nothing."""
    _say("step", text="starts, and makes a database of its own (takes some seconds)")
    _migrate()

    from redrive.demo.dag import dag  # noqa: PLC0415 - Airflow must have its database first

    for task in dag.tasks:
        task.on_execute_callback = [_started]
        task.on_success_callback = [_succeeded]
        task.on_failure_callback = [_failed]
    _say(
        "step", text=f"runs the DAG {dag.dag_id!r}: {', '.join(dag.task_ids)}, one after the other"
    )
    run = dag.test()
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    _say("dag_ended", states=states)


def _migrate() -> None:
    """Do what `airflow db migrate` does, without importing Airflow twice."""
    from airflow.__main__ import main as airflow  # noqa: PLC0415 - takes seconds

    mine, sys.argv = sys.argv, ["airflow", "db", "migrate"]
    try:
        airflow()  # type: ignore[no-untyped-call]  # Airflow's own
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        sys.argv = mine


def _started(context: Mapping[str, Any]) -> None:
    from redrive.airflow.requests import event_id_of  # noqa: PLC0415 - as Airflow itself

    ti = context["ti"]
    _say("task_started", task=ti.task_id, event_id=event_id_of(ti))


def _succeeded(context: Mapping[str, Any]) -> None:
    _say("task_ended", task=context["ti"].task_id, state="success", error=None)


def _failed(context: Mapping[str, Any]) -> None:
    error = context.get("exception")
    facts = {name: getattr(error, name, None) for name in _ERROR_FACTS}
    _say("task_ended", task=context["ti"].task_id, state="failed", error=facts)


def _say(what: str, **facts: object) -> None:
    line = {"at": SYSTEM.now().timestamp(), "what": what, **facts}
    with Path(os.environ[REPORT_FILE]).open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
