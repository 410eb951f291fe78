"""`redrive doctor`: findings, what to do about them, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.cli.exits import ExitCode

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy

print("hello from the module")

class State(TypedDict):
    text: str

def write(state: State) -> State:
    return {"text": "done"}

def made(policy):
    return StateGraph(State).add_node("write", write, retry_policy=policy).add_edge(START, "write")

calm, stacked = made(None), made(RetryPolicy())
"""


@pytest.fixture(autouse=True)
def module(
    own_logging: None,  # noqa: ARG001 - for what it undoes
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """A module of graphs in the working directory, under a name of its own for each test."""
    name = f"graphs_of_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(GRAPH)
    monkeypatch.chdir(tmp_path)
    path = sys.path[:]
    yield name
    sys.path[:] = path
    sys.modules.pop(name, None)


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_where_all_is_well_each_check_says_so(module: str) -> None:
    result = doctor("--graph", f"report={module}:calm")

    assert result.exit_code == 0
    assert (
        result.stdout == "ok       settings\nok       graphs\nok       retries\nok       notify\n"
    )


def test_a_warning_says_what_to_do_and_ends_with_0(module: str) -> None:
    result = doctor("--graph", f"report={module}:stacked")

    assert result.exit_code == 0
    what, advice = result.stdout.splitlines()[2:4]
    assert what == (
        "warning  retries: node 'write' of graph 'report' is tried 3 times by LangGraph's "
        "RetryPolicy, and the worker tries each run 4 times: up to 12 calls"
    )
    assert advice == (
        "         give the node redrive.graphs.retry_policy(), whose retries are those of the run"
    )


def test_the_policy_is_that_of_the_settings(module: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        f'[retry]\nmax_retries = 9\n[graphs.report]\ntarget = "{module}:stacked"\n'
    )

    result = doctor("--config", "own.toml")

    assert "up to 30 calls" in result.stdout


def test_json_is_for_programs_whatever_a_module_prints(module: str) -> None:
    result = doctor("--graph", f"report={module}:stacked", "--json")

    (found,) = json.loads(result.stdout)["retries"]
    assert set(found) == {"level", "what", "advice"}
    assert found["level"] == "warning"


def test_who_cannot_be_told_of_letters_is_named(module: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        f'[notify]\nhook = "{module}:nothing"\n[notify.urls]\nteam = "nosuchservice://hunter2"\n'
    )

    result = doctor("--config", "own.toml", "--graph", f"report={module}:stacked", "--json")

    assert result.exit_code == ExitCode.ENDED_BADLY
    found = [one["what"] for one in json.loads(result.stdout)["notify"]]
    assert [what.partition(":")[0] for what in found] == ["notify.urls.team", "notify.hook"]
    assert "hunter2" not in result.output


def test_a_graph_that_cannot_be_loaded_hides_no_other(module: str) -> None:
    result = doctor(
        *("--graph", "gone=nowhere_at_all:graph"),
        *("--graph", f"report={module}:stacked"),
        *("--graph", f"none={module}:nothing"),
        "--json",
    )

    assert result.exit_code == ExitCode.ENDED_BADLY
    told = json.loads(result.stdout)
    assert [found["level"] for found in told["graphs"]] == ["error", "error"]
    assert "there is no module 'nowhere_at_all'" in told["graphs"][0]["what"]
    assert len(told["retries"]) == 1


def test_graphs_of_a_langgraph_json_are_looked_at(module: str, tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text(
        json.dumps({"dependencies": ["."], "graphs": {"report": f"./{module}.py:stacked"}})
    )

    result = doctor("--langgraph-json", "langgraph.json")

    assert result.exit_code == 0
    assert "up to 12 calls" in result.stdout


def test_a_langgraph_json_that_is_not_there_is_a_finding() -> None:
    result = doctor("--langgraph-json", "langgraph.json")

    assert result.exit_code == ExitCode.ENDED_BADLY
    assert "error    graphs: " in result.stdout
    assert "langgraph.json" in result.stdout


def test_no_graph_at_all_is_an_error() -> None:
    result = doctor()

    assert result.exit_code == ExitCode.ENDED_BADLY
    assert "error    graphs: no graph is registered\n" in result.stdout


def test_settings_that_cannot_work_are_findings(tmp_path: Path) -> None:
    (tmp_path / "redrive.toml").write_text("[retry]\nmax_retries = -1\n[worker]\nhands = 2\n")

    result = doctor("--json")

    assert result.exit_code == ExitCode.ENDED_BADLY
    told = json.loads(result.stdout)
    assert len(told["settings"]) == 2
    assert "retry.max_retries" in str(told["settings"])


def test_without_langgraph_the_extra_is_named() -> None:
    script = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'langgraph':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "sys.argv = ['redrive', 'doctor']\n"
        "import redrive.cli\nredrive.cli.main()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert done.returncode == ExitCode.SETTINGS
    assert "install redrive[worker]" in done.stderr
