"""`redrive checkpoints`: what it says of a file, before any topic is asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import START, StateGraph
from tests.rows import rows
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.clock import SYSTEM
from redrive.graphs import Checkpoints, CheckpointSettings, Lease, WorkflowProcessor
from redrive.graphs.checkpoint_file import Deployment
from redrive.graphs.retention import Kept, Mark
from redrive.testing.kafka_env import event

DONE, GIVEN_UP, NAMED = (event({"n": number}) for number in range(3))


@pytest.fixture(autouse=True)
def _own_folder(own_logging: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del own_logging
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["checkpoints", *arguments])


class State(TypedDict):
    n: int


def work(state: State) -> State:
    return state


@pytest.fixture
def file(_own_folder: None) -> None:
    """A file with a finished thread, one of a letter, and one that a producer named."""
    built = StateGraph(State)
    built.add_node("work", work)
    built.add_edge(START, "work")

    async def fill() -> None:
        async with Checkpoints(CheckpointSettings()) as checkpoints:
            processor = WorkflowProcessor({"fates": built}, checkpoints)
            for one in (DONE, GIVEN_UP):
                await processor.run(one, thread_id=f"{one.event_id}/0/0", lease=Lease())
            await checkpoints.mark([f"{GIVEN_UP.event_id}/0/0"], Mark.LETTER)
            await processor.run(NAMED, thread_id="a \x1b[31mconversation", lease=Lease())
            await checkpoints.learn(Deployment("c/g/e/l", Kept(None, None), SYSTEM.now()))

    asyncio.run(fill())


@pytest.mark.usefixtures("file")
def test_the_list_shows_each_thread_its_state_and_its_event() -> None:
    result = _run("list")

    assert result.exit_code == 0
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["THREAD", "STATE", "AGE", "SIZE", "EVENT"]
    assert [line.split()[1] for line in lines[:2]] == ["finished", "letter"]
    assert lines[0].split()[-1] == DONE.event_id
    assert lines[2].startswith(r"a \x1b[31mconversation ")
    assert lines[2].split()[2] == "named"
    assert "3 of 3 thread(s): 1 finished, 1 letter, 1 named" in result.stderr
    assert "keeps its records for ever" in result.stderr


@pytest.mark.usefixtures("file")
def test_as_json_the_list_has_ages_and_sizes() -> None:
    whole = json.loads(_run("list", "--json").stdout)
    letters = json.loads(_run("list", "--json", "--state", "letter").stdout)
    old = json.loads(_run("list", "--json", "--older-than", "1h").stdout)
    first = json.loads(_run("list", "--json", "--limit", "1").stdout)

    assert [one["state"] for one in whole["threads"]] == ["finished", "letter", "named"]
    assert all(one["size_bytes"] > 0 and one["age_s"] >= 0 for one in whole["threads"])
    assert whole["threads"][2]["event_id"] == NAMED.event_id
    assert whole["file"]["shrinks"] is True
    assert [one["event_id"] for one in letters["threads"]] == [GIVEN_UP.event_id]
    assert (old["threads"], old["total"]) == ([], 0)
    assert (len(first["threads"]), first["total"]) == (1, 3)


@rows(
    "arguments, said",
    [
        (["list", "--state", "lost"], "'lost' is none of running, finished, letter"),
        (["list", "--older-than", "soon"], "is not a duration"),
        (["sweep", "--older-than", "soon"], "is not a duration"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str], said: str) -> None:
    result = _run(*arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_where_no_worker_has_made_a_file_that_is_said(tmp_path: Path) -> None:
    listed, swept = _run("list"), _run("sweep", "--yes")

    assert (listed.exit_code, swept.exit_code) == (1, 1)
    assert "there are no checkpoints at 'sqlite:///redrive-checkpoints.db'" in listed.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("file")
def test_a_thread_is_deleted_by_its_name_and_no_other_is() -> None:
    name = "a \x1b[31mconversation"

    asked = _run("delete", name, "--force", "--dry-run")
    unsure = _run("delete", name, "--force")
    done = _run("delete", name, "--force", "--yes", "--json")
    again = _run("delete", name, "--force", "--yes")

    assert asked.stdout.startswith(r"a \x1b[31mconversation: named, of workflow fates, ")
    assert (unsure.exit_code, "--yes" in unsure.stderr) == (2, True)
    assert json.loads(done.stdout)["deleted"] == 1
    left = json.loads(_run("list", "--json").stdout)["threads"]
    assert [(one["state"], one["workflow"]) for one in left] == [
        ("finished", "fates"),
        ("letter", "fates"),
    ]
    assert (again.exit_code, "holds no thread" in again.stderr) == (1, True)


@pytest.mark.usefixtures("file")
def test_a_scope_names_the_threads_of_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    without = _run("delete", "chat", "--scope", "acme", "--force", "--yes")
    monkeypatch.setenv("REDRIVE_THREADS__SCOPE", "metadata.tenant")
    missing = _run("delete", "chat", "--scope", "a/b", "--force", "--yes")

    assert (without.exit_code, "threads.scope" in without.stderr) == (2, True)
    assert "'scope:metadata.tenant=a%2Fb/chat'" in missing.stderr
