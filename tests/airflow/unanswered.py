"""Tasks that nobody answers, run by hand without a scheduler: how long each waits in its slot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk.exceptions import TaskDeferred

from redrive.airflow import LangGraphOperator, LangGraphRunError
from redrive.clock import SYSTEM


def run_task(task_id: str, **arguments: Any) -> dict[str, object]:
    operator = LangGraphOperator(
        task_id=task_id,
        workflow_id="agent",
        data={"task": task_id},
        events_topic=os.environ["UNREAD_TOPIC"],
        **arguments,
    )
    task = SimpleNamespace(
        dag_id="unanswered", run_id="by hand", task_id=task_id, map_index=-1, try_number=1
    )
    began = SYSTEM.monotonic()
    ended: object = None
    waits_for: object = None
    try:
        operator.execute({"ti": task})  # type: ignore[typeddict-item]  # all of a task that it reads
    except TaskDeferred as deferred:
        ended, waits_for = "deferred", deferred.trigger.serialize()[1]
    except LangGraphRunError as error:
        ended = error.reason
    return {"ended": ended, "after_s": SYSTEM.monotonic() - began, "waits_for": waits_for}


if __name__ == "__main__":
    waits = {
        "for_a_second": run_task("for_a_second", timeout=60, wait_first="1s"),
        "not_at_all": run_task("not_at_all", timeout=60, wait_first=0),
        "to_the_deadline": run_task("to_the_deadline", timeout=0.5),
    }
    os.environ["REDRIVE_AIRFLOW__ID_SECRET"] = os.environ["ID_SECRET"]
    waits["with_a_secret"] = run_task("not_at_all", timeout=60, wait_first=0)
    os.environ |= json.loads(os.environ["CODEC"])
    waits["encrypted"] = run_task("encrypted", timeout=60, wait_first=0)
    operator = LangGraphOperator(task_id="answered", workflow_id="agent", data={})
    answer = json.loads(os.environ["ANSWER"])
    waits["encrypted"]["result"] = operator.execute_complete({}, answer)
    (Path(os.environ["REPORT_FOLDER"]) / "unanswered.json").write_text(json.dumps(waits))
