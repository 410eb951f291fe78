"""What the kit finds in checkpoints: threads that two have written to at once."""

import sqlite3
from pathlib import Path
from typing import TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from redrive.testing import forked_threads


class State(TypedDict, total=False):
    steps: int


def run_thread(database: Path, thread: str, *, again_from: int | None = None) -> None:
    """Run two nodes to their end; then once more from one of the checkpoints, the newest first."""
    graph = StateGraph(State)
    graph.add_node("plan", lambda _: {"steps": 1})
    graph.add_node("write", lambda _: {"steps": 2})
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "write")
    graph.add_edge("write", END)
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    with SqliteSaver.from_conn_string(str(database)) as saver:
        compiled = graph.compile(saver)
        compiled.invoke({}, config)
        if again_from is not None:
            compiled.invoke(None, [*compiled.get_state_history(config)][again_from].config)


def test_threads_that_ran_to_their_end_do_not_fork(tmp_path: Path) -> None:
    database = tmp_path / "checkpoints.db"
    for thread in ("one", "two"):
        run_thread(database, thread)

    assert forked_threads(database) == []


def test_a_thread_that_was_gone_on_with_twice_from_one_checkpoint_is_named(tmp_path: Path) -> None:
    database = tmp_path / "checkpoints.db"
    run_thread(database, "one")
    run_thread(database, "two", again_from=1)

    (finding,) = forked_threads(database)

    assert finding.startswith("forked: thread two has 2 checkpoints that follow ")


def test_without_a_file_nothing_forks_and_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.touch()

    assert forked_threads(tmp_path / "nothing.db") == []
    with pytest.raises(sqlite3.Error):
        forked_threads(other)
