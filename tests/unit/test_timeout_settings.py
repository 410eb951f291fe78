"""How long things may take, as settings say it: for all graphs, and for one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from redrive.errors import SettingsError
from redrive.graphs import GraphRegistry, GraphSettings, TimeoutSettings
from redrive.settings import load_settings
from redrive.units import LONGEST
from redrive.wiring.graphs import policy_of

ALL = TimeoutSettings(
    run=timedelta(minutes=5), attempt=timedelta(minutes=1), idle=timedelta(seconds=30)
)


@pytest.mark.invariant("P7", "P8")
def test_without_settings_a_run_gives_its_slot_back_after_two_days() -> None:
    settings = load_settings(environ={})
    endless = load_settings(overrides={"timeouts.run": "36500d"}, environ={})

    assert settings.timeouts == TimeoutSettings(run=timedelta(days=2), attempt=None, idle=None)
    assert policy_of(settings).run_s == 48 * 3600
    assert policy_of(endless).run_s == LONGEST.total_seconds()


def test_a_graph_has_the_limits_of_all_where_it_has_none_of_its_own() -> None:
    graph = GraphSettings(target="m:graph", attempt_timeout=timedelta(seconds=7))

    own = ALL.of(graph)

    assert own == ALL.model_copy(update={"attempt": timedelta(seconds=7)})
    assert ALL.of(GraphSettings(target="m:graph")) == ALL
    assert ALL.of(None) == ALL


def test_each_limit_of_a_graph_comes_before_that_of_all() -> None:
    graph = GraphSettings.model_validate(
        {"target": "m:graph", "timeout": "3s", "attempt_timeout": "2s", "idle_timeout": "1s"}
    )

    own = ALL.of(graph)

    assert own.model_dump(mode="json") == {"run": "3s", "attempt": "2s", "idle": "1s"}


def test_the_name_that_deployments_know_counts_seconds() -> None:
    known = load_settings(environ={"WORKFLOW_EXECUTION_TIMEOUT": "300"})
    ours = load_settings(
        environ={"WORKFLOW_EXECUTION_TIMEOUT": "300", "REDRIVE_TIMEOUTS__RUN": "2m"}
    )

    assert known.timeouts.run == timedelta(minutes=5)
    assert ours.timeouts.run == timedelta(minutes=2)


@pytest.mark.parametrize(
    "key", ["timeouts.run", "timeouts.attempt", "timeouts.idle", "graphs.a.idle_timeout"]
)
def test_no_time_at_all_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match=f"^{key} in the flags.*: no time at all"):
        load_settings(overrides={"graphs.a.target": "m:graph", key: "0s"}, environ={})


def test_a_loaded_graph_brings_its_settings_along() -> None:
    settings = GraphSettings(target="redrive.demo.graph:graph", timeout=timedelta(seconds=9))
    registry = GraphRegistry({"team-*": settings})

    found = registry.find("team-a")

    assert (found.id, found.settings) == ("team-*", settings)
