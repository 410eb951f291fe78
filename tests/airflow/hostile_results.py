"""Run inside Airflow: what its own serialisers make of hostile results; prints one JSON line."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import msgspec
from airflow.sdk.serde import deserialize, serialize
from airflow.triggers.base import TriggerEvent

from redrive.airflow.run_answers import SucceededRun, heard, judge
from redrive.events import ResultStatus, WorkflowResultEvent

HOSTILE: dict[str, object] = {
    "int of 65 bits": {"n": 2**64},
    "negative int of 65 bits": [-(2**63) - 1],
    "int of 4,000 digits": 10**3_999,
    "classname": {"__classname__": "os.system", "__version__": 1, "__data__": "x"},
    "schema id": {"a": [{"__id__": "x"}]},
    "old pair": {"__type": "dict", "__var": {"secret": 1}},
    "old timedelta": {"x": {"__type": "timedelta", "__var": 300.0}},
    "NUL": {"text": "\0"},
    "plain": {"__type": 1, "__version__": 2, "text": "é", "list": [1, None, True, 0.5]},
    "largest": [2**64 - 1, -(2**63)],
}


def through_airflow(result: object) -> str:
    """Send a result the whole way: worker, trigger, database, task, XCom; say what came of it."""
    record = WorkflowResultEvent(
        correlation_id="e",
        workflow_id="w",
        workflow_run_id="r",
        result=result,
        status=ResultStatus.SUCCESS,
        timestamp=datetime.now(UTC),
    )
    event = TriggerEvent(heard(record))  # type: ignore[no-untyped-call]  # Airflow's
    # From the triggerer's inner process to its outer one; then into the database and back.
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(event.model_dump()))
    stored = json.loads(json.dumps(serialize({"event": sent["payload"]})))
    run = judge(deserialize(stored)["event"])  # type: ignore[index]  # a dict
    if not isinstance(run, SucceededRun):
        return f"refused: {run.text}"
    # From the task to its supervisor, as XCom; and to the next task.
    pushed = msgspec.msgpack.decode(msgspec.msgpack.encode(serialize(run.result)))
    return "equal" if deserialize(pushed) == result else "other"


sys.stdout.write(json.dumps({name: through_airflow(each) for name, each in HOSTILE.items()}))
