"""Counts node executions outside the worker's process: a file with one line for each.

Standard library only: the graph's process writes, the demo reads.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from redrive.clock import SYSTEM

__all__ = ["EXECUTIONS_FILE", "count_execution"]

EXECUTIONS_FILE = "DEMO_EXECUTIONS_FILE"
"""The environment variable that names the file; without it nothing is counted."""


def count_execution(node: str, *, thread_id: str) -> None:
    """Add a line for an execution that begins now."""
    file = os.environ.get(EXECUTIONS_FILE)
    if not file:
        return
    # A run's thread is named after its event: "<event_id>/<partition>/<generation>".
    event_id = thread_id.partition("/")[0]
    line = {"at": SYSTEM.now().timestamp(), "what": "node_ran", "node": node, "event_id": event_id}
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
