"""Commands are imported when they are chosen; until then their table speaks for them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import pytest
from tests.rows import rows

from redrive.cli.app import whole_command
from redrive.cli.lazy import LazyGroup

# Typer itself takes pydantic; the settings are not its.
HEAVY = {"airflow", "confluent_kafka", "langgraph", "redrive.settings", "structlog"}
RUN = """
import sys
from redrive.cli import main

sys.argv = ["redrive", *sys.argv[1:]]
try:
    main()
finally:
    print("LOADED", *sys.modules)
"""
# A process without LangGraph, as on a host of Airflow.
WITHOUT_LANGGRAPH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("langgraph", "langchain_core"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""
LISTS = [
    (["--help"], ["demo", "worker", "dlq", "Inspect, redrive and manage dead letters."]),
    (["dlq", "--help"], ["redrive", "show", "List letters, newest first."]),
    (["--version"], ["redrive"]),
]


def run(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + RUN, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@rows("words, listed", LISTS, ids=lambda row: " ".join(row[0]))
def test_help_lists_commands_without_importing_them(words: list[str], listed: list[str]) -> None:
    ran = run(*words)

    told, _, loaded = ran.stdout.partition("LOADED")
    assert ran.returncode == 0
    assert [text for text in listed if text not in told] == []
    assert set(loaded.split()) & HEAVY == set()


def groups(command: Any, path: str) -> list[tuple[str, LazyGroup]]:  # noqa: ANN401 - typer's own copy of click
    if not isinstance(command, LazyGroup):
        return []
    inner = (groups(one, f"{path} {name}") for name, one in command.commands.items())
    return [(path, command), *(found for several in inner for found in several)]


def test_a_summary_is_the_first_paragraph_of_the_commands_own_help() -> None:
    told = {
        f"{path} {name}": (command.summary, group.commands[name].help or "")
        for path, group in groups(whole_command(), "redrive")
        for name, command in group.lazy.items()
    }

    own = {
        path: re.sub(r"\s+", " ", inspect.cleandoc(text).split("\n\n")[0])
        for path, (_, text) in told.items()
    }
    assert {path: summary for path, (summary, _) in told.items()} == own


def test_a_misspelt_command_is_answered_with_the_nearest_one() -> None:
    ran = run("dlq", "shoow")

    assert ran.returncode == 2
    assert "Did you mean 'show'?" in ran.stderr


@pytest.mark.parametrize("words", [("send", "--help"), ("dlq", "redrive", "--help")])
def test_what_needs_no_langgraph_works_without_it(words: tuple[str, ...]) -> None:
    assert run(*words, before=WITHOUT_LANGGRAPH).returncode == 0


def test_a_command_that_needs_langgraph_names_the_extra() -> None:
    ran = run("checkpoints", "list", before=WITHOUT_LANGGRAPH)

    assert ran.returncode == 2
    assert "langgraph is not installed: install redrive[worker]" in ran.stderr
