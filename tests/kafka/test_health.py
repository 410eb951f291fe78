"""What a worker says of itself at `/livez` and `/readyz`, whatever happens to it."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kafka.seen_from_outside import Outside, Said, free_port

from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.worker_process import WorkerProcess, wait_until

AGENTS = Path(__file__).parent / "agents"
GRAPHS = ("--worker-id", "w1", "--graph", "*=fates:builder")
READY = Said(200, "working")


@pytest.fixture
def outside() -> Outside:
    return Outside(free_port())


def wait_for(outside: Outside, path: str, wanted: Callable[[Said], bool], what: str) -> None:
    wait_until(lambda: wanted(outside.probe(path)), timeout_s=60, what=what)


def wait_until_ready(outside: Outside) -> None:
    wait_for(outside, "/readyz", lambda said: said == READY, "the worker is ready")


def test_a_blocked_loop_is_not_alive_and_is_told_of_all_the_same(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(partitions=1, REDRIVE_METRICS__STALL="1s")

    with env.worker(*GRAPHS, environ=outside.environ).running():
        wait_until_ready(outside)
        env.send([event({"fate": "block", "seconds": 5})])
        wait_for(outside, "/livez", lambda said: said.status == 503, "the loop is seen to block")
        said = outside.probe("/livez")
        still_s = outside.metrics("redrive_still_seconds", "thread")
        wait_for(outside, "/livez", lambda said: said == READY, "the loop moves again")

    assert "the event loop stands still" in said.why
    assert still_s["loop",] > max(1.0, still_s["poll",])


def test_a_broker_that_is_away_makes_a_worker_unready_but_not_dead(
    breakable: LocalBroker, outside: Outside, tmp_path: Path
) -> None:
    shutil.copy(AGENTS / "fates.py", tmp_path)
    servers = breakable.bootstrap_servers
    env = KafkaEnv(servers, create_topics(servers, partitions=4), tmp_path)

    with env.worker(*GRAPHS, environ=outside.environ).running() as worker:
        wait_until_ready(outside)
        breakable.stop()
        # Nothing is being settled: only the group's own silence tells.
        wait_for(outside, "/readyz", lambda said: said.status == 503, "the worker is not ready")
        away = outside.probe("/readyz")
        alive = outside.probe("/livez")
        breakable.start()
        wait_until_ready(outside)
        assert worker.stop() == 0

    assert away.status == 503
    assert alive == READY


def test_a_broker_that_never_answered_leaves_a_worker_alive_and_starting(
    tmp_path: Path, outside: Outside
) -> None:
    shutil.copy(AGENTS / "fates.py", tmp_path)
    nowhere = {"REDRIVE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    worker = WorkerProcess(tmp_path, environ=outside.environ | nowhere, arguments=GRAPHS)

    with worker.running():
        worker.wait_for("broker.waiting")
        said = outside.probe("/livez"), outside.probe("/readyz")

    assert said == (Said(200, "starting"), Said(503, "starting"))


def test_a_draining_worker_is_alive_and_not_ready(
    make_stage: Callable[..., KafkaEnv], outside: Outside
) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL="none")
    executions = env.folder / "executions.log"
    begun = lambda: executions.exists() and "work" in executions.read_text()  # noqa: E731

    with env.worker(*GRAPHS, environ=outside.environ, supervised=True).running() as worker:
        wait_until_ready(outside)
        env.send([event({"fate": "sleep", "seconds": 8})])
        wait_until(begun, timeout_s=60, what="the run has begun")
        worker.signal(15)
        worker.wait_for("worker.draining")
        # Its parent hears of it a fifth of a second later.
        draining = Said(503, "draining")
        wait_until(
            lambda: outside.probe("/readyz") == draining, timeout_s=60, what="it is not ready"
        )
        alive = outside.probe("/livez")
        assert worker.wait(timeout_s=40) == 0
        gone = outside.probe("/livez")

    assert alive == Said(200, "draining")
    assert gone.status == 0


@pytest.mark.parametrize("supervised", [False, True])
def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, *, supervised: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = Outside(int(listening.getsockname()[1]))
        worker = WorkerProcess(
            tmp_path, environ=taken.environ, arguments=GRAPHS, supervised=supervised
        )
        worker.start()
        code = worker.wait(timeout_s=90)

    (line,) = [line for line in worker.log_file.read_text().splitlines() if line[:1] != "{"]
    assert code == 2
    assert line == (
        f"redrive: metrics.port: 127.0.0.1:{taken.port} cannot be listened on: Address already in "
        "use: choose another metrics.port or metrics.host, or 0 to serve nothing"
    )
