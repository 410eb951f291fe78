"""The Makefile: `make help` lists every target that there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, flags=re.MULTILINE))


def test_help_lists_every_target() -> None:
    ran = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    listed = {line.split()[1] for line in ran.stdout.splitlines() if line.startswith("  make ")}

    assert listed == targets()


def test_every_target_that_is_declared_phony_is_there() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")

    phony = set(re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)[0].split())

    assert phony == targets()
