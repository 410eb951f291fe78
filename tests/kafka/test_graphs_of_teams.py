"""Graphs as teams write them, in a supervised worker on a real broker: nothing is skipped."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kafka.dlq_commands import letters, run

from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic

SETTLED_S = 60
GRAPHS = tuple(
    flag
    for name in ("routed", "gate", "exits", "closes", "nested")
    for flag in ("--graph", f"{name}=as_teams_write_them:{name}")
)


@pytest.fixture
def env(make_stage: Callable[..., KafkaEnv]) -> KafkaEnv:
    made = make_stage(
        partitions=1,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_RETRY__INITIAL_DELAY="50ms",
    )
    shutil.copy(Path(__file__).parent / "agents" / "as_teams_write_them.py", made.folder)
    return made


def work(env: KafkaEnv, *events: WorkflowEvent, card_node: str = "card") -> None:
    """Let one worker and its parent take all that there is."""
    worker = env.worker(
        "--worker-id", "w1", *GRAPHS, supervised=True, environ={"CARD_NODE": card_node}
    )
    env.send(events)
    with worker.running():
        env.wait_settled(timeout_s=SETTLED_S)
        assert not list(worker.events("supervisor.child_died"))
        assert worker.stop() == 0


def answers(env: KafkaEnv, to: WorkflowEvent) -> list[WorkflowResultEvent]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    told = [WorkflowResultEvent.from_bytes(record.value) for record in records]
    return [one for one in told if one.correlation_id == to.event_id]


def executions(env: KafkaEnv) -> Counter[str]:
    return Counter((env.folder / "executions.log").read_text(encoding="ascii").split())


@pytest.mark.invariant("P2", "P4", "P16")
def test_routers_breakpoints_and_nodes_that_exit_end_truthfully(env: KafkaEnv) -> None:
    kinds = ("routed", "gate", "exits", "closes")
    routed, gate, exits, closes = (event({"log": []}, workflow_id=kind) for kind in kinds)

    work(env, routed, gate, gate, exits, closes)

    (answer,) = answers(env, routed)
    assert (answer.status, answer.result) == ("success", {"log": ["plan", "routed"]})
    twice = answers(env, gate)
    assert [one.status for one in twice] == ["failure", "failure"]
    assert twice[0].result == twice[1].result
    assert [one.error_info and one.error_info.reason for one in twice] == ["interrupt"] * 2
    for ended in (exits, closes):
        (answer,) = answers(env, ended)
        assert answer.status == "error"
        assert answer.error_info is not None
        assert answer.error_info.type == "redrive.errors.NodeExitError"
    counted = executions(env)
    assert {name: counted[name] for name in ("plan", "route", "routed", "asks", "charges")} == {
        "plan": 2,
        "route": 2,
        "routed": 1,
        "asks": 1,
        "charges": 0,
    }
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


@pytest.mark.invariant("P4", "P13", "P16")
def test_an_inner_node_that_was_renamed_is_refused_and_goes_on_when_it_is_back(
    env: KafkaEnv,
) -> None:
    order = event({"log": []}, workflow_id="nested")
    work(env, order)
    first = drive(env)

    work(env, card_node="bank_card")
    renamed = answers(env, order)[-1]
    second = drive(env)
    work(env)

    assert first != second
    assert renamed.status == "error"
    assert renamed.error_info is not None
    assert (renamed.error_info.reason, renamed.run and renamed.run.resume_verified) == (
        "graph_changed",
        None,
    )
    last = answers(env, order)[-1]
    assert (last.status, last.result) == ("success", {"log": ["order", "card", "ship"]})
    assert last.run is not None
    assert last.run.resume_verified is True
    assert executions(env) == {"order": 1, "card": 2, "ship": 1}
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


def drive(env: KafkaEnv) -> str:
    """Redrive the newest letter, as a user would; return its id."""
    newest = letters(env)[-1].dlq_id
    code, out, err = run(env, "redrive", newest, "--yes", "--no-wait")
    assert code == 0, out + err
    return newest
