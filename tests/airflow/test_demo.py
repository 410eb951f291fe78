"""`redrive demo`, as a new user runs it: its exit code, what it prints, what it leaves behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.airflow.conftest import AirflowHome

from redrive.cli.app import app
from redrive.testing.worker_process import wait_until

LIMIT_S = 500
REDRIVE = ("from redrive.cli import main", "main()")
# What a user may have set up for the real thing: none of it may reach the demo.
OF_THE_USER = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody@127.0.0.1:1/production",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "REDRIVE_RETRY__MAX_RETRIES": "0",
}


@dataclass(frozen=True)
class Played:
    """What one demo printed and left behind."""

    code: int
    out: str
    err: str
    left: list[Path]

    @property
    def summary(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self.out)
        return found

    def run(self, task: str) -> Mapping[str, Any]:
        return next(run for run in self.summary["runs"] if run["task"] == task)

    @property
    def commands(self) -> list[list[str]]:
        """The commands that it names, as argument lists."""
        lines = (line.strip() for line in self.err.splitlines())
        return [shlex.split(x, comments=True)[1:] for x in lines if x.startswith("redrive ")]


def play(folder: Path, *before: str) -> Played:
    script = ["import sys", "sys.argv = ['redrive', 'demo', '--json']", *before, *REDRIVE]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(script)],
        env={**os.environ, **OF_THE_USER, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Played(done.returncode, done.stdout, done.stderr, list(folder.iterdir()))


@pytest.fixture(scope="module")
def played(bare_airflow: AirflowHome, tmp_path_factory: pytest.TempPathFactory) -> Played:
    del bare_airflow  # skips, or fails, where Airflow is missing
    return play(tmp_path_factory.mktemp("demo"))


def test_all_endings_are_as_they_should_be(played: Played) -> None:
    assert played.code == 0, played.err
    assert played.summary["ok"] is True
    assert played.summary["differences"] == []


@pytest.mark.invariant("P4")
def test_the_run_with_hiccups_is_resumed_where_it_failed(played: Played) -> None:
    run = played.run("recovers")

    (answer,) = run["answers"]
    assert (run["state"], answer["status"], answer["attempts"]) == ("success", "success", 3)
    assert run["executions"] == {"research": 1, "write": 3, "review": 1}


@pytest.mark.invariant("P6")
def test_the_permanent_failure_ends_as_a_letter_that_the_task_names(played: Played) -> None:
    run = played.run("is_refused")

    (letter,) = run["letters"]
    assert (run["state"], run["answers"][0]["status"]) == ("failed", "error")
    assert letter["byte_exact"] is True
    assert run["error"] == {
        "kind": "permanent",
        "reason": "permanent",
        "node": "review",
        "attempts": 1,
        "dlq_id": letter["dlq_id"],
    }


@pytest.mark.invariant("P4")
def test_its_letter_is_driven_again_by_command_from_the_node_that_failed(played: Played) -> None:
    run = played.run("is_refused")

    (letter,) = run["letters"]
    assert run["executions"] == {"research": 1, "write": 1, "review": 2}
    assert run["answers"][1] == {
        "status": "success",
        "attempts": 1,
        "redrive_count": 1,
        "resume_verified": True,
    }
    assert (letter["state"], run["events"], run["events_equal"]) == ("resolved", 2, True)
    assert played.summary["command"]["exit_code"] == 0
    assert played.summary["command"]["command"].startswith(
        f"redrive dlq redrive {letter['dlq_id']} --yes"
    )


def test_the_timeline_tells_the_redrive_in_its_order(played: Played) -> None:
    told = [
        "user     fixes the cause: takes 'secrets' off the reviewer's list",
        "user     types: redrive dlq redrive ",
        "kafka    is_refused: event stored again",
        "worker   is_refused: runs review again (execution 2), from its checkpoint",
        "kafka    is_refused: answer stored: success; the worker verified",
        "user     the command has seen the new answer, and ends with exit code 0",
    ]

    places = [played.err.find(line) for line in told]

    assert -1 not in places
    assert places == sorted(places)


def test_it_says_that_this_broker_has_no_transactions(played: Played) -> None:
    assert played.summary["delivery"] == "at_least_once"
    assert "This broker has no transactions" in played.err


def test_the_timeline_is_plain_lines_without_airflows_own_logs(played: Played) -> None:
    timeline = played.err.partition("\n\n")[0].splitlines()

    assert {line.split()[1] for line in timeline} == {"airflow", "kafka", "worker", "user"}
    assert len(timeline) < 40


def test_every_command_that_it_names_is_there(played: Played) -> None:
    assert ["topics", "create"] in played.commands
    for arguments in played.commands:
        command = typer.main.get_command(app)
        while hasattr(command, "resolve_command"):
            context = command.make_context("redrive", list(arguments), resilient_parsing=True)
            _, command, arguments = command.resolve_command(context, list(arguments))  # noqa: PLW2901 - one level down
        command.make_context("redrive", list(arguments))


def test_nothing_is_left_behind(played: Played) -> None:
    assert played.left == []


@pytest.mark.nightly
def test_an_ending_that_differs_exits_1_says_which_and_keeps_the_logs(
    bare_airflow: AirflowHome, tmp_path: Path
) -> None:
    del bare_airflow
    finished_nodes_run_again = (
        "from redrive.demo.environment import DemoEnvironment",
        "as_typed = DemoEnvironment.start_command",
        "DemoEnvironment.start_command = lambda self, typed: as_typed(self, (*typed, '--restart'))",
    )

    played = play(tmp_path, *finished_nodes_run_again)

    assert played.code == 1
    assert played.summary["differences"] == [
        "is_refused: resumes verified by the worker: None, None, expected None, True",
        "is_refused: executions of node 'research': 2, expected 1",
        "is_refused: executions of node 'write': 2, expected 1",
    ]
    assert "redrive: unexpected: is_refused: executions of node 'research': 2" in played.err
    (kept,) = played.left
    assert f"kept in {kept}: airflow.log, command.log, worker.log" in played.err
    assert (kept / "worker.log").stat().st_size > 0


@pytest.mark.nightly
def test_a_signal_ends_everything_that_was_started(
    bare_airflow: AirflowHome, tmp_path: Path
) -> None:
    del bare_airflow
    log = tmp_path / "log"
    folder = tmp_path / "tmp"
    folder.mkdir()
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [sys.executable, "-m", "redrive", "demo"],
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=out,
        )
    try:
        wait_until(lambda: b"event stored" in log.read_bytes(), timeout_s=LIMIT_S, what="a run")
        started = living_in(folder)
        demo.send_signal(signal.SIGTERM)
        code = demo.wait(30)
    finally:
        demo.kill()
        demo.wait()

    assert len(started) >= 2
    assert code == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert list(folder.iterdir()) == []


def living_in(folder: Path) -> list[int]:
    """Return the processes whose working directory is in `folder`."""
    if not Path("/proc/self/cwd").exists():
        pytest.skip("needs /proc to look for processes")
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if entry.readlink().is_relative_to(folder):
                found.append(int(entry.parent.name))
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return found


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("airflow", "redrive: apache-airflow is not installed: install redrive[airflow]"),
        ("langgraph", "redrive: langgraph is not installed: install redrive[worker]"),
    ],
)
def test_a_missing_extra_is_named(tmp_path: Path, module: str, line: str) -> None:
    played = play(tmp_path, f"sys.modules[{module!r}] = None")

    assert played.code == 2
    assert played.err.splitlines() == [line]
    assert played.left == []
