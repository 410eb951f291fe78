"""Random graphs under random faults: a success means that every node ran, and none too often.

Each seed is a graph and what happens to its run; it is compared with a run of plain LangGraph that
nothing disturbs. A seed that fails is printed with the smallest case that fails in the same way;

    GRAPH_SEEDS=17,100-200 .venv/bin/python -m pytest tests/property/test_nothing_skipped.py

plays seeds of your choice. One that has shown a fault goes into kept_graph_seeds.txt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

import pytest
from tests.property.disturbed_runs import complaints, in_a_worker
from tests.property.killed_runs import killed_runs
from tests.property.known_bad_processors import KNOWN_BAD, Patch
from tests.property.random_cases import Case, random_case
from tests.property.smallest_case import kind_of, smallest

KEPT = Path(__file__).with_name("kept_graph_seeds.txt")
QUICK, KILLED, HUNTED = 40, 8, 60
NIGHTLY, KILLED_AT_NIGHT = 2000, 200
# So that none comes near the limit of a test, on two busy cores either.
PARTS = 8
_MOST_FAILURES = 5


def kept_seeds() -> list[int]:
    lines = KEPT.read_text(encoding="utf-8").splitlines()
    return [int(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]


def asked_seeds() -> list[int]:
    """Return the seeds that the environment asks for."""
    asked: list[int] = []
    for part in filter(None, os.environ.get("GRAPH_SEEDS", "").split(",")):
        first, _, last = part.partition("-")
        asked += range(int(first), int(last or first) + 1)
    return asked


def new_seeds(count: int) -> list[int]:
    """Return seeds that nobody has seen; in CI the same each time, as hypothesis does there."""
    first = 10_000 if os.environ.get("CI") else SystemRandom().randrange(10_000, 10**9)
    return list(range(first, first + count))


def failures(seeds: Iterable[int], folder: Path) -> Iterator[str]:
    """Play seeds, and tell of each that goes wrong, of the first in its way with a small case."""
    known: set[str] = set()
    with in_a_worker() as runner:
        for seed in seeds:
            case = runner.run(random_case(seed))
            wrong = runner.run(complaints(case, folder))
            if not wrong:
                continue
            page, kinds = _page(f"seed {seed}", case, wrong), set(map(kind_of, wrong))
            if not kinds <= known:
                small, told = runner.run(smallest(case, wrong, folder))
                page += _page("which is, made small", small, told)
            known |= kinds
            yield page


def _page(name: str, case: Case, wrong: list[str]) -> str:
    return "\n".join([f"\n{name}: {case}", *(f"    ! {told}" for told in wrong)])


def play(seeds: Iterable[int], folder: Path) -> None:
    found = []
    for told in failures(seeds, folder):
        found.append(told)
        if len(found) == _MOST_FAILURES:
            break
    assert not found, "".join(found)


def play_killed(seeds: Iterable[int], folder: Path) -> None:
    with in_a_worker() as runner:
        cases = [(seed, runner.run(random_case(seed))) for seed in seeds]
    cases = [(seed, replace(case, faults=())) for seed, case in cases if not case.leads_nowhere]
    played = killed_runs(cases, folder)
    wrong = [
        _page(f"seed {seed}", case, one.wrong)
        for (seed, case), one in zip(cases, played, strict=True)
        if one.wrong
    ]
    assert not wrong, "".join(wrong)
    assert sum(one.kills for one in played) > len(cases) / 2


@pytest.mark.invariant("P4", "P16")
def test_whatever_fails_a_success_has_run_every_node_and_none_too_often(tmp_path: Path) -> None:
    seeds = asked_seeds() or [*kept_seeds(), *range(1, QUICK + 1)]

    play(seeds, tmp_path)


@pytest.mark.invariant("P4", "P16")
def test_whenever_processes_are_killed_a_success_has_run_every_node(tmp_path: Path) -> None:
    play_killed(range(1, KILLED + 1), tmp_path)


@pytest.mark.nightly
@pytest.mark.invariant("P4", "P16")
@pytest.mark.parametrize("part", range(PARTS))
def test_two_thousand_new_seeds_skip_nothing(part: int, tmp_path: Path) -> None:
    play(new_seeds(NIGHTLY)[part::PARTS], tmp_path)


@pytest.mark.nightly
@pytest.mark.invariant("P4", "P16")
def test_of_many_that_are_killed_none_skips_anything(tmp_path: Path) -> None:
    play_killed(new_seeds(KILLED_AT_NIGHT), tmp_path)


@pytest.mark.parametrize("bad", KNOWN_BAD, ids=lambda bad: bad.__name__)
def test_a_processor_that_is_known_to_be_bad_is_caught(
    bad: Patch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad(monkeypatch)

    said = KNOWN_BAD[bad]
    with in_a_worker() as runner:
        told = (
            runner.run(complaints(runner.run(random_case(seed)), tmp_path))
            for seed in range(1, HUNTED + 1)
        )
        caught = any(said in complaint for wrong in told for complaint in wrong)

    assert caught, f"{HUNTED} seeds have not shown it"
