"""A lifespan in a real worker: open before it is ready, closed when it has drained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

AGENTS = Path(__file__).parent / "agents"
EVENTS = 20


def test_a_lifespan_is_opened_once_a_worker_on_its_own_loop_and_closed_at_the_drain(
    make_stage: Callable[..., KafkaEnv], tmp_path: Path
) -> None:
    shutil.copy(AGENTS / "pooled.py", tmp_path)
    told = tmp_path / "told"
    # The graph and a variable that its module reads are the file's, the lifespan is a setting's.
    content = {"graphs": {"*": "./pooled.py:make_graph"}, "env": {"TOLD": str(told)}}
    (tmp_path / "langgraph.json").write_text(json.dumps(content))
    env = make_stage(REDRIVE_GRAPHS='{"*": {"lifespan": "pooled:lifespan"}}')
    env.send(event({"name": f"e{n}"}) for n in range(EVENTS))

    arguments = ("--langgraph-json", "langgraph.json")
    with env.worker(*arguments, supervised=True).running() as worker:
        env.wait_settled(timeout_s=60)
        pid = worker.child_pid
        assert worker.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": EVENTS}
    lines = [line.split() for line in told.read_text().splitlines()]
    assert [what for what, *_ in lines] == ["opened", "made", *["ran"] * EVENTS, "closed"]
    assert {(process, loop) for _, process, loop in lines} == {(str(pid), lines[0][2])}


def test_a_lifespan_that_never_closes_does_not_hold_the_stop_beyond_its_grace(
    make_stage: Callable[..., KafkaEnv], tmp_path: Path
) -> None:
    shutil.copy(AGENTS / "pooled.py", tmp_path)
    env = make_stage(
        REDRIVE_GRAPHS='{"*": {"target": "fates:builder", "lifespan": "pooled:never_closes"}}',
        REDRIVE_WORKER__GRACE="2s",
    )

    with env.worker().running() as worker:
        worker.wait_for("worker.ready")
        code = worker.stop()

        (told,) = worker.events("graph.not_closed")
    assert code == 0
    assert told["what"] == "graph '*', its lifespan, pooled:never_closes"
    assert "not within" in str(told["error"])
