"""What `import redrive` gives, and what it does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import redrive

SOURCE = Path(redrive.__file__)
HEAVY = {"airflow", "confluent_kafka", "langgraph", "pydantic"}

LIST_LOADED = "import sys, redrive; print(*{name.partition('.')[0] for name in sys.modules})"
WITHOUT_LANGGRAPH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("langgraph", "langchain_core"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from redrive import LangGraphKafkaConsumer
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )


def imported_names() -> set[str]:
    """Return what the front door imports from further in, for type checkers as well."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("redrive.")
        for alias in node.names
    }


def test_the_names_are_sorted() -> None:
    names = redrive.__all__

    assert names == sorted(names)


def test_every_name_is_there() -> None:
    missing = [name for name in redrive.__all__ if getattr(redrive, name, None) is None]

    assert missing == []


def test_no_name_is_left_out_of_the_list() -> None:
    # The error that names an extra is raised by us, not by who imports us.
    assert imported_names() - {"MissingExtraError"} == set(redrive.__all__)


def test_no_name_is_that_of_a_package_or_module() -> None:
    modules = {path.stem for path in SOURCE.parent.iterdir()}

    assert modules & set(redrive.__all__) == set()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Nothing'"):
        _ = redrive.Nothing  # type: ignore[attr-defined]  # that is the point


def test_importing_it_loads_nothing_heavy() -> None:
    loaded = set(run(LIST_LOADED).stdout.split())

    assert "redrive" in loaded
    assert loaded & HEAVY == set()


def test_where_langgraph_is_missing_the_extra_is_named() -> None:
    ran = run(WITHOUT_LANGGRAPH)

    assert ran.returncode == 1
    assert "MissingExtraError: langgraph is not installed: install redrive[worker]" in ran.stderr


def test_type_checkers_of_those_who_install_it_read_its_types() -> None:
    assert SOURCE.with_name("py.typed").is_file()
