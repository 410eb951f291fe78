"""ARCHITECTURE.md against the tree: every package and module is named, and what is named is there.

A line of the page begins with the package in bold, as **`retry/`**, or **`redrive`** for the
modules at the top, and names the package's modules as `file.py`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "redrive"
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
SILENT = {"__init__.py", "__main__.py"}


def in_the_tree() -> dict[str, set[str]]:
    """Return the modules of each package; a package without any is left out."""
    found: dict[str, set[str]] = {}
    for file in SOURCE.rglob("*.py"):
        package = file.parent.relative_to(SOURCE).as_posix()
        if file.name not in SILENT:
            found.setdefault("redrive" if package == "." else f"{package}/", set()).add(file.name)
    return found


def on_the_page() -> dict[str, set[str]]:
    lines = re.findall(r"^\* \*\*`([a-z_/]+)`\*\*(.*(?:\n  .*)*)", PAGE, flags=re.MULTILINE)
    return {package: set(re.findall(r"`([a-z_]+\.py)`", text)) for package, text in lines}


def test_every_package_and_module_is_named_and_no_other() -> None:
    assert on_the_page() == in_the_tree()


def test_every_path_on_the_page_is_there() -> None:
    paths = {path for path in re.findall(r"`([\w./-]+)`", PAGE) if "/" in path}

    missing = [path for path in paths if not any((at / path).exists() for at in (ROOT, SOURCE))]

    assert missing == []


def test_the_floors_are_those_that_import_linter_checks() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")

    floors = re.search(r"## Floors\n.*?```text\n(.*?)```", PAGE, flags=re.DOTALL)

    assert floors is not None
    assert floors[1].splitlines() == [layer.replace("redrive.", "") for layer in layers]
