"""Random graphs under random faults: a success means that every node ran, and none too often.

Each seed is a graph and what happens to its run; it is compared with a run of plain LangGraph that
nothing disturbs. A seed that fails is printed with the smallest case that fails in the same way;

    GRAPH_SEEDS=17,100-200 .venv/bin/python -m pytest tests/property/test_nothing_skipped.py

plays seeds of your choice. One that has shown a fault goes into kept_graph_seeds.txt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import SystemRandom

import pytest
from tests.property.disturbed_runs import complaints, in_a_worker
from tests.property.random_cases import Case, random_case
from tests.property.smallest_case import smallest

KEPT = Path(__file__).with_name("kept_graph_seeds.txt")
QUICK, KILLED = 300, 24
NIGHTLY, KILLED_AT_NIGHT = 2000, 200
_MOST_FAILURES = 5


def kept_seeds() -> list[int]:
    lines = KEPT.read_text(encoding="utf-8").splitlines()
    return [int(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]


def asked_seeds() -> list[int]:
    """Return the seeds that the environment asks for."""
    asked = []
    for part in filter(None, os.environ.get("GRAPH_SEEDS", "").split(",")):
        first, _, last = part.partition("-")
        asked += range(int(first), int(last or first) + 1)
    return asked


def new_seeds(count: int) -> list[int]:
    """Return seeds that nobody has seen; in CI the same each time, as hypothesis does there."""
    first = 10_000 if os.environ.get("CI") else SystemRandom().randrange(10_000, 10**9)
    return list(range(first, first + count))


def failures(seeds: Iterable[int], folder: Path) -> Iterator[str]:
    """Play seeds, and tell of each that goes wrong."""
    with in_a_worker() as runner:
        for seed in seeds:
            case = runner.run(random_case(seed))
            wrong = runner.run(complaints(case, folder))
            if wrong:
                small, told = runner.run(smallest(case, wrong, folder))
                yield _page(seed, case, wrong) + _page("its smallest", small, told)


def _page(name: object, case: Case, wrong: list[str]) -> str:
    return "\n".join([f"\nseed {name}: {case}", *(f"    ! {told}" for told in wrong)])


def play(seeds: Iterable[int], folder: Path) -> None:
    found = []
    for told in failures(seeds, folder):
        found.append(told)
        if len(found) == _MOST_FAILURES:
            break
    assert not found, "".join(found)


@pytest.mark.invariant("P4", "P16")
def test_whatever_fails_a_success_has_run_every_node_and_none_too_often(tmp_path: Path) -> None:
    seeds = asked_seeds() or [*kept_seeds(), *range(1, QUICK + 1)]

    play(seeds, tmp_path)


@pytest.mark.nightly
@pytest.mark.invariant("P4", "P16")
def test_two_thousand_new_seeds_skip_nothing(tmp_path: Path) -> None:
    play(new_seeds(NIGHTLY), tmp_path)
