"""What was tried on redrive, in numbers: `python -m tests.tried` (docs/security.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from tests.kafka.test_attacks import all_attacks
from tests.property.hostile_errors import hostile_errors
from tests.property.hostile_parsers import PARSERS
from tests.property.test_hostile_errors import failures as of_errors
from tests.property.test_hostile_parsers import failures as of_parser
from tests.unit.test_secret_values import PASSWORDS, SECRET_OPTIONS, shown_in_part
from tests.unit.test_terminal import WAYS

INPUTS = 5_000
"""Of each parser."""


def numbers() -> Iterator[dict[str, object]]:
    """Try them, and yield how many were tried and how many succeeded, of each kind."""
    for parser in PARSERS:
        failed = list(of_parser(parser, INPUTS))
        yield {"parser": parser.name, "tried": INPUTS, "failed": len(failed)}
    exceptions = sum(1 for _ in hostile_errors())
    yield {"exceptions": exceptions, "failed": len(list(of_errors()))}
    yield {"terminal": len(WAYS), "failed": _failed("tests/unit/test_terminal.py")}
    shown = [pair for option in SECRET_OPTIONS for pair in shown_in_part(option)]
    yield {"config show": len(PASSWORDS), "options": len(SECRET_OPTIONS), "shown": len(shown)}
    attacks = len(all_attacks("a-letter"))
    yield {"attacks on a worker": attacks, "failed": _failed("tests/kafka/test_attacks.py")}


def _failed(file: str) -> int:
    """Run the test that tries them: it says which succeed. 0 where none does."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", file], stdout=sys.stderr, check=False
    )
    return ran.returncode


if __name__ == "__main__":
    for told in numbers():
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()
