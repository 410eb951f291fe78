"""Graphs as teams write them, in a supervised worker on a real broker: nothing is skipped."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kafka.dlq_commands import letters, run

from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.testing.judging import gather, judge
from redrive.testing.reading import read_topic
from redrive.testing.stage import Stage, event

SETTLED_S = 60
GRAPHS = tuple(
    flag
    for name in ("routed", "gate", "exits", "closes", "nested")
    for flag in ("--graph", f"{name}=as_teams_write_them:{name}")
)


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    made = make_stage(
        partitions=1,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_RETRY__INITIAL_DELAY="50ms",
    )
    shutil.copy(Path(__file__).parent / "agents" / "as_teams_write_them.py", made.folder)
    return made


def work(stage: Stage, *events: WorkflowEvent, card_node: str = "card") -> None:
    """Let one worker and its parent take all that there is."""
    worker = stage.worker(
        "--worker-id", "w1", *GRAPHS, supervised=True, environ={"CARD_NODE": card_node}
    )
    stage.send(events)
    with worker.running():
        stage.wait_settled(timeout_s=SETTLED_S)
        assert not list(worker.events("supervisor.child_died"))
        assert worker.stop() == 0


def answers(stage: Stage, to: WorkflowEvent) -> list[WorkflowResultEvent]:
    records = read_topic(stage.bootstrap_servers, stage.topics.results)
    told = [WorkflowResultEvent.from_bytes(record.value) for record in records]
    return [one for one in told if one.correlation_id == to.event_id]


def executions(stage: Stage) -> Counter[str]:
    return Counter((stage.folder / "executions.log").read_text(encoding="ascii").split())


@pytest.mark.invariant("P2", "P4", "P16")
def test_routers_breakpoints_and_nodes_that_exit_end_truthfully(stage: Stage) -> None:
    kinds = ("routed", "gate", "exits", "closes")
    routed, gate, exits, closes = (event({"log": []}, workflow_id=kind) for kind in kinds)

    work(stage, routed, gate, gate, exits, closes)

    (answer,) = answers(stage, routed)
    assert (answer.status, answer.result) == ("success", {"log": ["plan", "routed"]})
    twice = answers(stage, gate)
    assert [one.status for one in twice] == ["failure", "failure"]
    assert twice[0].result == twice[1].result
    assert [one.error_info and one.error_info.reason for one in twice] == ["interrupt"] * 2
    for ended in (exits, closes):
        (answer,) = answers(stage, ended)
        assert answer.status == "error"
        assert answer.error_info is not None
        assert answer.error_info.type == "redrive.errors.NodeExitError"
    counted = executions(stage)
    assert {name: counted[name] for name in ("plan", "route", "routed", "asks", "charges")} == {
        "plan": 2,
        "route": 2,
        "routed": 1,
        "asks": 1,
        "charges": 0,
    }
    assert judge(gather(stage.bootstrap_servers, stage.topics)).findings == []


@pytest.mark.invariant("P4", "P13", "P16")
def test_an_inner_node_that_was_renamed_is_refused_and_goes_on_when_it_is_back(
    stage: Stage,
) -> None:
    order = event({"log": []}, workflow_id="nested")
    work(stage, order)
    first = drive(stage)

    work(stage, card_node="bank_card")
    renamed = answers(stage, order)[-1]
    second = drive(stage)
    work(stage)

    assert first != second
    assert renamed.status == "error"
    assert renamed.error_info is not None
    assert (renamed.error_info.reason, renamed.run and renamed.run.resume_verified) == (
        "graph_changed",
        None,
    )
    last = answers(stage, order)[-1]
    assert (last.status, last.result) == ("success", {"log": ["order", "card", "ship"]})
    assert last.run is not None
    assert last.run.resume_verified is True
    assert executions(stage) == {"order": 1, "card": 2, "ship": 1}
    assert judge(gather(stage.bootstrap_servers, stage.topics)).findings == []


def drive(stage: Stage) -> str:
    """Redrive the newest letter, as a user would; return its id."""
    newest = letters(stage)[-1].dlq_id
    code, out, err = run(stage, "redrive", newest, "--yes", "--no-wait")
    assert code == 0, out + err
    return newest
