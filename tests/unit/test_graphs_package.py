"""What `redrive.graphs` exports, and what it asks for where LangGraph is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import redrive.graphs

_WITHOUT_LANGGRAPH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("langgraph", "langchain_core"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without_langgraph(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_LANGGRAPH + code],
        check=False,
        capture_output=True,
        text=True,
    )


def test_all_names_are_sorted_and_there() -> None:
    names = redrive.graphs.__all__

    assert sorted(names) == names
    assert all(getattr(redrive.graphs, name) is not None for name in names)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Nothing'"):
        _ = redrive.graphs.Nothing  # type: ignore[attr-defined]  # that is the point


def test_settings_and_endings_need_no_langgraph() -> None:
    ran = without_langgraph(
        "from redrive.graphs.graph_settings import GraphSettings\n"
        "from redrive.graphs.attempt_ends import Ended\n"
        "from redrive.graphs import CheckpointSettings, Failed, Lease\n"
        "assert 'langgraph' not in sys.modules\n"
    )

    assert ran.returncode == 0, ran.stderr


def test_where_langgraph_is_missing_the_extra_is_named() -> None:
    ran = without_langgraph("from redrive.graphs import WorkflowProcessor\n")

    assert ran.returncode == 1
    assert "MissingExtraError: langgraph is not installed: install redrive[worker]" in ran.stderr
