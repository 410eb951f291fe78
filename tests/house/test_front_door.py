"""What `import redrive` gives, and what it does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.source_tree import Function, SourceTree
from scripts.visible_names import public_names

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


def undocumented(source: SourceTree, module: str, name: str) -> Iterator[str]:
    """Yield what of a public name says nothing of itself."""
    found = source.definition(module, name)
    if found is None:
        return
    node = found[1]
    if isinstance(node, ast.ClassDef):
        if ast.get_docstring(node) is None:
            yield f"{module}.{name}"
        inside = [one for one in node.body if isinstance(one, Function)]
        for one in inside:
            if not one.name.startswith("_") and says_nothing(one):
                yield f"{module}.{name}.{one.name}"
    elif isinstance(node, Function) and not any(
        ast.get_docstring(one) for at, one in source.functions[node.name] if at == found[0]
    ):
        yield f"{module}.{name}"


def says_nothing(function: Function) -> bool:
    return ast.get_docstring(function) is None and not is_typed_again(function)


def is_typed_again(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    decorators = {ast.unparse(one) for one in method.decorator_list}
    return "overload" in decorators or any(name.endswith(".setter") for name in decorators)


def test_every_public_name_has_a_docstring() -> None:
    source = SourceTree(SOURCE.parent)

    missing = [
        one for module, name in public_names(source) for one in undocumented(source, module, name)
    ]

    assert missing == []
