"""The table of log events in docs/running-a-worker.md against the calls in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "running-a-worker.md").read_text(encoding="utf-8")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z]+(\.[a-z_]+)+")


def logged() -> set[tuple[str, str]]:
    """Return each event that the code logs, with its level."""
    found: set[tuple[str, str]] = set()
    for file in (ROOT / "src" / "redrive").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                name = ast.unparse(call.func.value)
                if name in {"log", "_log"} and call.func.attr in LEVELS:
                    level = "error" if call.func.attr == "exception" else call.func.attr
                    found |= {(event, level) for event in events_of(call.args[0], tree)}
    return found


def events_of(argument: ast.expr, tree: ast.Module) -> Iterator[str]:
    """Read the event's name, also where it was put into a variable first."""
    if isinstance(argument, ast.Name):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == argument.id:
                yield from events_of(node.value, tree)
        return
    for node in ast.walk(argument):
        if isinstance(node, ast.Constant) and EVENT.fullmatch(str(node.value)):
            yield str(node.value)


def test_the_table_lists_exactly_the_events_that_are_logged() -> None:
    told = re.findall(r"^\| `([a-z_.]+)` \| (\w+) \|", PAGE, flags=re.MULTILINE)

    assert set(told) == logged()
    assert len(told) == len(set(told))
