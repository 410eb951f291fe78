"""`redrive.retry` is usable alone: the standard library is all it needs."""

from __future__ import annotations

import subprocess
import sys

import redrive.retry

LIST_FOREIGN = """
import sys
before = set(sys.modules)
import redrive.retry
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - sys.stdlib_module_names))
"""


def test_importing_it_alone_imports_nothing_but_the_standard_library() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", LIST_FOREIGN], capture_output=True, text=True, check=True, timeout=60
    )

    assert answer.stdout.split() == ["redrive"]


def test_of_redrive_itself_it_imports_only_what_lies_below() -> None:
    script = (
        "import sys, redrive.retry; print(*[m for m in sys.modules if m.startswith('redrive.')])"
    )

    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    packages = {name.split(".")[1] for name in answer.stdout.split()}
    assert packages <= {"retry", "clock", "errors", "json_texts"}


def test_its_public_names_are_sorted_and_all_there() -> None:
    names = redrive.retry.__all__

    assert names == sorted(names, key=lambda name: (name[0].islower(), name))
    assert all(hasattr(redrive.retry, name) for name in names)
