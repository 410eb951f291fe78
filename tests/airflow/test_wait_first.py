"""How long a task that nobody answers waits in its slot, and how that ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from tests.airflow.conftest import HERE, AirflowHome

WAIT_FIRST_S = 10.0
"""The operator's default."""


@pytest.fixture(scope="module")
def waits(airflow: AirflowHome) -> Mapping[str, Any]:
    airflow.run(sys.executable, str(HERE / "unanswered.py"))
    waits: Mapping[str, Any] = json.loads((airflow.folder / "unanswered.json").read_text())
    return waits


def test_a_slow_run_defers_its_task_when_wait_first_is_over(waits: Mapping[str, Any]) -> None:
    wait = waits["for_a_second"]

    assert wait["ended"] == "deferred"
    assert 1 <= wait["after_s"] < WAIT_FIRST_S


def test_without_wait_first_a_task_defers_at_once(waits: Mapping[str, Any]) -> None:
    wait = waits["not_at_all"]

    assert wait["ended"] == "deferred"
    assert wait["after_s"] < waits["for_a_second"]["after_s"]


@pytest.mark.invariant("P8")
def test_a_task_never_waits_in_its_slot_past_its_deadline(waits: Mapping[str, Any]) -> None:
    wait = waits["to_the_deadline"]

    # Half a second, and the five in which the worker's own answer may still come.
    assert wait["ended"] == "deadline"
    assert 5.5 <= wait["after_s"] < WAIT_FIRST_S
