"""The compiled requirement files: versions and hashes; every dependency of pyproject is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEV = ROOT / "requirements" / "dev.txt"
WORKER = ROOT / "requirements" / "worker.txt"
SBOM = ROOT / "requirements" / "sbom.txt"
FILES = pytest.mark.parametrize("file", [DEV, WORKER, SBOM], ids=lambda file: file.name)
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[a-z0-9,._-]+\])?==[^\s;@]+(\s*;\s*\S[^\\]*?)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9._-]+")


def requirements_of(file: Path) -> list[tuple[str, list[str]]]:
    """Return each requirement with the options behind it, as its lines say together."""
    whole = file.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in whole.splitlines() if line.strip() and line.lstrip()[0] != "#"]
    parted = [line.partition(" --") for line in lines]
    return [(pin.strip(), f"{dashes}{options}".split()) for pin, dashes, options in parted]


def pinned(file: Path) -> set[str]:
    return {
        canonical(match["name"])
        for pin, _ in requirements_of(file)
        if (match := PIN.fullmatch(pin))
    }


def canonical(requirement: str) -> str:
    match = NAME.match(requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def wanted(*extras: str) -> set[str]:
    project = pyproject()["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    named = [
        *project["dependencies"],
        *(one for extra in extras or optional for one in optional[extra]),
    ]
    return {canonical(one) for one in named}


@FILES
def test_every_line_is_a_version_with_its_hashes(file: Path) -> None:
    found = requirements_of(file)

    others = [
        (pin, options)
        for pin, options in found
        if not PIN.fullmatch(pin) or not options or not all(map(HASH.fullmatch, options))
    ]

    assert len(found) > 10
    assert others == [], "versions and hashes only: no addresses, no other options"


@FILES
def test_no_line_holds_an_address(file: Path) -> None:
    assert "://" not in file.read_text(encoding="utf-8")


def test_every_dependency_and_every_extra_is_pinned_for_development() -> None:
    assert wanted() - pinned(DEV) == set(), "run: make lock"


def test_every_dependency_of_a_worker_is_pinned_for_workers() -> None:
    assert wanted("worker") - pinned(WORKER) == set(), "run: make lock"


def test_what_lists_the_parts_is_pinned() -> None:
    named = {canonical(one) for one in pyproject()["dependency-groups"]["sbom"]}

    assert named - pinned(SBOM) == set(), "run: make lock"
