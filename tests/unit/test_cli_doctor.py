"""`redrive doctor`: findings, what to do about them, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.rows import rows
from typer.testing import CliRunner, Result

from redrive.cli import checks
from redrive.cli.app import app
from redrive.cli.broker_findings import (
    judge_backlog,
    judge_clock,
    judge_delays,
    judge_note_limit,
)
from redrive.cli.exits import ExitCode
from redrive.cli.findings import NoBroker
from redrive.consumer.policy import Policy
from redrive.graphs import GraphSettings
from redrive.redriving.backlog import Backlog
from redrive.retry import RetryConfig
from redrive.settings import Settings

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
    return CliRunner().invoke(app, ["doctor", "--offline", *arguments])


def test_where_all_is_well_each_check_says_so(module: str, tmp_path: Path) -> None:
    made = tmp_path / "redrive-checkpoints.db"

    result = doctor("--graph", f"report={module}:calm")

    assert result.exit_code == 0
    checked, left_out = result.stdout.splitlines()[:10], result.stdout.splitlines()[10:]
    assert checked == [
        "ok       settings",
        "ok       graphs",
        "ok       retries",
        "ok       notify",
        f"ok       checkpoints: '{made}' does not exist yet, and can be created",
        "ok       spool",
        "ok       worker: not asked: metrics.port is not set",
        "ok       tracing",
        "ok       payloads",
        "ok       signatures",
    ]
    assert {line.partition(" ")[0] for line in left_out} == {"skipped"}
    assert all("skipped (--offline)" in line for line in left_out)
    assert not made.exists()


@pytest.mark.parametrize("place", ["no/such/folder/c.db", "a_file/c.db"])
def test_checkpoints_that_could_not_be_written_are_an_error(
    module: str, tmp_path: Path, place: str
) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "own.toml").write_text(f'[checkpoints]\nurl = "sqlite:///{place}"\n')

    result = doctor("--config", "own.toml", "--graph", f"report={module}:calm", "--json")

    assert result.exit_code == ExitCode.ENDED_BADLY
    (found,) = json.loads(result.stdout)["checkpoints"]
    assert (found["level"], place in found["what"]) == ("error", True)


def test_a_checkpoint_file_that_is_no_database_is_an_error(module: str, tmp_path: Path) -> None:
    text = "not a database, but long enough to be taken for one" * 20
    (tmp_path / "redrive-checkpoints.db").write_text(text)

    result = doctor("--graph", f"report={module}:calm")

    assert result.exit_code == ExitCode.ENDED_BADLY
    assert "error    checkpoints: checkpoints.url: cannot write" in result.stdout
    assert (tmp_path / "redrive-checkpoints.db").read_text() == text


def test_letters_that_lie_in_the_spool_are_named(module: str, tmp_path: Path) -> None:
    (tmp_path / "redrive-letters.jsonl").write_text("{}\n{}\n")

    result = doctor("--graph", f"report={module}:calm")

    assert result.exit_code == 0
    assert "warning  spool: 2 letters are in 'redrive-letters.jsonl'\n" in result.stdout
    assert "redrive dlq import redrive-letters.jsonl" in result.stdout


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("backlog", "levels", "words"),
    [
        (Backlog(0, None, 0, 0), ["ok"], "0 event(s)"),
        (
            Backlog(3, NOW - HOUR, 0, 2),
            ["ok"],
            "3 event(s) of 'e' are not finished, the oldest of 1:",
        ),
        (Backlog(3, NOW - HOUR, 0, 0), ["warning"], "there is no worker in group 'g'"),
        (Backlog(3, NOW - 8 * HOUR, 0, 1), ["warning"], "the topic keeps events for 10h"),
        (Backlog(0, None, 4, 1), ["warning"], "4 offsets of 'e' were deleted"),
        (Backlog(3, NOW - 8 * HOUR, 4, 0), ["warning"] * 3, "no worker"),
        (Backlog(1, NOW + HOUR, 0, 1), ["ok"], "the oldest of 0:00:00"),
    ],
)
def test_a_backlog_is_a_warning_where_nobody_works_or_events_get_lost(
    backlog: Backlog, levels: list[str], words: str
) -> None:
    found = list(judge_backlog(backlog, topic="e", group="g", retention=10 * HOUR, now=NOW))

    assert [one.level for one in found] == levels
    assert words in found[0].what


HOURLY = RetryConfig(max_retries=5, max_delay=3600)


@pytest.mark.parametrize(
    ("policies", "retention", "level", "words"),
    [
        (
            [Policy(HOURLY)],
            5 * HOUR,
            "ok",
            "runs may wait 5h for their retries; 'e' keeps events for",
        ),
        (
            [Policy(HOURLY)],
            5 * HOUR - timedelta(seconds=1),
            "warning",
            "one that waits may be gone",
        ),
        ([Policy(RetryConfig()), Policy(HOURLY)], HOUR, "warning", "runs may wait 5h"),
        ([Policy(RetryConfig()), Policy(HOURLY)], None, "ok", "for ever"),
        ([Policy(HOURLY, run_s=1800)], HOUR, "ok", "may wait 30m"),
        ([Policy(RetryConfig(total_limit=60))], HOUR, "ok", "may wait 1m"),
    ],
)
def test_events_are_to_be_kept_longer_than_their_runs_may_wait(
    policies: list[Policy], retention: timedelta | None, level: str, words: str
) -> None:
    (found,) = judge_delays(policies, topic="e", retention=retention)

    assert found.level == level
    assert words in found.what


@pytest.mark.parametrize(
    ("newest", "levels", "words"),
    [
        ({}, ["skipped"], "cannot be seen"),
        ({"stamped": NOW - HOUR, "other": NOW}, ["skipped"], "cannot be seen"),
        ({"stamped": NOW + HOUR}, ["warning"], "1:00:00 ahead of this host's clock: the broker's"),
        ({"other": NOW + HOUR}, ["warning"], "the clock of a producer is ahead"),
    ],
)
def test_only_a_clock_that_is_ahead_can_be_seen(
    newest: dict[str, datetime], levels: list[str], words: str
) -> None:
    found = list(judge_clock(newest, {"stamped"}, now=NOW))

    assert [one.level for one in found] == levels
    assert words in found[0].what


@rows(
    "limit, level, words",
    [
        (None, "ok", "cannot be read"),
        (4_096, "ok", "fits beside each offset"),
        (3_100, "ok", "fits beside each offset"),
        (3_099, "warning", "256 events"),
        (500, "warning", "37 events may run or wait for a retry at once, not 256"),
        (500, "warning", "lets the next 1184 end before it, not 8192"),
        (102, "error", "must be 103 or more: no worker starts"),
    ],
)
def test_what_a_small_limit_on_notes_costs_is_told(
    limit: int | None, level: str, words: str
) -> None:
    (found,) = judge_note_limit(limit)

    assert found.level == level
    assert words in found.what


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


def test_a_graphs_own_policy_is_the_one_that_counts(module: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        f'[graphs.report]\ntarget = "{module}:stacked"\nretry = {{max_retries = 4}}\n'
    )

    result = doctor("--config", "own.toml")

    assert "up to 15 calls" in result.stdout


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


OPENING = """
from contextlib import asynccontextmanager

told = []

@asynccontextmanager
async def opening():
    told.append("opened")
    yield stacked
    told.append("closed")

@asynccontextmanager
async def refusing():
    raise OSError("nobody is there")
    yield
"""


def test_offline_nothing_is_opened(module: str, tmp_path: Path) -> None:
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write(OPENING)

    result = doctor("--graph", f"report={module}:opening")

    assert result.exit_code == 0
    assert "skipped  graphs: graph 'report': resources of the event loop were not opened" in (
        result.stdout
    )
    assert sys.modules[module].told == []


def test_online_what_graphs_open_is_opened_looked_at_and_closed(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write(OPENING)
    monkeypatch.setattr(checks, "look_at_broker", lambda _: NoBroker())
    settings = Settings(
        graphs={
            "report": GraphSettings(target=f"{module}:opening"),
            "refused": GraphSettings(target=f"{module}:refusing"),
        }
    )

    examined = checks.examine(settings, None, offline=False)

    assert [graph.id for graph in examined.graphs] == ["report"]
    assert set(examined.graphs[0].compiled.nodes) > {"__start__"}
    assert ["nobody is there" in str(error) for error in examined.refused] == [True]
    assert examined.unopened == ()
    assert sys.modules[module].told == ["opened", "closed"]


def test_what_a_langgraph_json_says_in_vain_is_a_warning(module: str, tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text(
        json.dumps(
            {"graphs": {"report": f"./{module}.py:calm"}, "checkpointer": {"ttl": {}}, "grafs": {}}
        )
    )

    result = doctor("--langgraph-json", "langgraph.json")

    assert result.exit_code == 0
    assert (
        "warning  graphs: langgraph.json, checkpointer.ttl is not fully supported" in result.stdout
    )
    assert "checkpoints.ttl says how long" in result.stdout
    assert "warning  graphs: langgraph.json, grafs is not fully supported" in result.stdout


def test_a_graph_of_a_langgraph_json_has_the_limit_of_a_flag(module: str, tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text(
        json.dumps({"graphs": {"report": f"./{module}.py:calm"}})
    )

    good = doctor("--langgraph-json", "langgraph.json", "--recursion-limit", "report=500")
    bad = doctor("--langgraph-json", "langgraph.json", "--recursion-limit", "other=500")

    assert good.exit_code == 0
    assert bad.exit_code == ExitCode.ENDED_BADLY
    assert "graphs.other.target is missing" in bad.stdout


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


def test_it_says_which_records_count(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> tuple[str, str]:
        result = doctor("--graph", f"report={module}:calm", "--json")
        (found,) = json.loads(result.stdout)["signatures"]
        return found["level"], found["what"]

    monkeypatch.setenv("REDRIVE_SECURITY__SIGNING_KEYS__OPS", "k" * 32)
    assert told() == (
        "ok",
        "signs with key 'ops', verifies with 1: unsigned records are accepted",
    )
    monkeypatch.setenv("REDRIVE_SECURITY__REQUIRE", "refuse")
    assert told() == (
        "ok",
        "signs with key 'ops', verifies with 1: only signed records are accepted",
    )
    monkeypatch.setenv("REDRIVE_SECURITY__PRODUCERS__OPS__WORKFLOWS", "report")
    assert told()[0] == "error"
    monkeypatch.setenv("REDRIVE_SECURITY__SIGNING_KEYS__OPS", "env:NOT_THERE")
    assert told() == (
        "error",
        "security.signing_keys.ops: the environment variable NOT_THERE is not set, or is empty",
    )


@pytest.mark.invariant("P15")
def test_it_says_that_payloads_leave_for_langsmith(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "https://trace.example.com")

    result = doctor("--graph", f"report={module}:calm", "--json")

    (found,) = json.loads(result.stdout)["tracing"]
    assert found["level"] == "warning"
    assert "https://trace.example.com" in found["what"]
    assert result.exit_code == 0
