"""Files and functions stay small enough to read: 400 lines a file, 50 a function, all counted."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.rows import rows

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "src").rglob("*.py"))
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 50


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


@rows("file", FILES, ids=lambda file: str(file.relative_to(ROOT / "src")))
def test_the_file_and_its_functions_are_small(file: Path) -> None:
    text = file.read_text(encoding="utf-8")

    long = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := lines_of(node)) > MOST_FUNCTION_LINES
    ]

    assert len(text.splitlines()) <= MOST_FILE_LINES
    assert long == []
