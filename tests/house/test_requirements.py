"""The compiled requirement files: versions only, and every dependency of pyproject is in them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEV = ROOT / "requirements" / "dev.txt"
WORKER = ROOT / "requirements" / "worker.txt"
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[a-z0-9,._-]+\])?==[^\s;@]+(\s*;\s*\S.*)?")
NAME = re.compile(r"[A-Za-z0-9._-]+")


def lines_of(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def pinned(file: Path) -> set[str]:
    return {canonical(match["name"]) for line in lines_of(file) if (match := PIN.fullmatch(line))}


def canonical(requirement: str) -> str:
    match = NAME.match(requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def wanted(*extras: str) -> set[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    named = [
        *project["dependencies"],
        *(one for extra in extras or optional for one in optional[extra]),
    ]
    return {canonical(one) for one in named}


@pytest.mark.parametrize("file", [DEV, WORKER], ids=lambda file: file.name)
def test_every_line_is_a_version(file: Path) -> None:
    others = [line for line in lines_of(file) if not PIN.fullmatch(line)]

    assert others == [], "names with versions only: no addresses, no options"


@pytest.mark.parametrize("file", [DEV, WORKER], ids=lambda file: file.name)
def test_no_line_holds_an_address(file: Path) -> None:
    assert "://" not in file.read_text(encoding="utf-8")


def test_every_dependency_and_every_extra_is_pinned_for_development() -> None:
    assert wanted() - pinned(DEV) == set(), "run: make lock"


def test_every_dependency_of_a_worker_is_pinned_for_workers() -> None:
    assert wanted("worker") - pinned(WORKER) == set(), "run: make lock"
