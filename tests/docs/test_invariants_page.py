"""docs/invariants.md against the tests: a promise is kept where tests that carry it say so."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from tests.rows import rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
PROMISES = tuple(f"P{number}" for number in range(1, 17))
STATUS = ("kept", "in part", "not yet")


def sections() -> dict[str, str]:
    parts = re.split(r"^## (P\d+) .*$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named(section: str) -> set[str]:
    return set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", section))


def status(section: str) -> str:
    found = re.search(r"^\*\*Today: ([a-z ]+)\.\*\*", section, flags=re.MULTILINE)
    return found[1] if found else "none"


@functools.cache
def marked() -> dict[str, set[str]]:
    """Return, by promise, the tests that carry it as a mark."""
    found: dict[str, set[str]] = {promise: set() for promise in PROMISES}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for promise in carried(node):
                    found[promise].add(f"{file.relative_to(ROOT).as_posix()}::{node.name}")
    return found


def carried(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.invariant":
            yield from (ast.literal_eval(argument) for argument in mark.args)


def test_the_page_has_every_promise_once_and_in_order() -> None:
    assert tuple(re.findall(r"^## (P\d+) ", PAGE, flags=re.MULTILINE)) == PROMISES


@rows("promise", PROMISES)
def test_a_promise_names_exactly_the_tests_that_carry_it(promise: str) -> None:
    listed, carrying = named(sections()[promise]), marked()[promise]

    missing = "\n".join(f"* `{test}`" for test in sorted(carrying - listed))
    assert listed - carrying == set(), f"{promise} names tests that do not carry its mark"
    assert not missing, f"add to {promise} in docs/invariants.md:\n{missing}"


def test_each_promise_is_shown_on_a_real_broker_each_time_and_not_at_night_alone() -> None:
    on_a_broker = ("tests/kafka/", "tests/chaos/", "tests/airflow/")
    at_night = nightly()
    by_promise = {
        promise: [test for test in tests - at_night if test.startswith(on_a_broker)]
        for promise, tests in marked().items()
    }

    assert [promise for promise, tests in by_promise.items() if not tests] == []


def nightly() -> set[str]:
    """Return the tests none of whose rows is run by `make test`."""
    found = set()
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        whole = any(
            isinstance(node, ast.Assign) and ast.unparse(node) == "pytestmark = pytest.mark.nightly"
            for node in tree.body
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                if whole or "pytest.mark.nightly" in marks:
                    found.add(f"{file.relative_to(ROOT).as_posix()}::{node.name}")
    return found


@rows("promise", PROMISES)
def test_a_promise_that_is_kept_at_all_has_a_test(promise: str) -> None:
    section = sections()[promise]

    assert status(section) in STATUS
    assert named(section) or status(section) == "not yet"
