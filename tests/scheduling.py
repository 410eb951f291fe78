"""Which test process gets which tests, and when: long ones first, short ones fill the gaps.

`long_tests.txt` says how long tests take, in seconds; the others are short. It is made by

    .venv/bin/python -m pytest -n 8 --junitxml=report.xml
    .venv/bin/python -m tests.scheduling report.xml > tests/long_tests.txt

and with `folders` behind it, it says how long the tests of each folder take.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # xdist has no types

__all__ = ["LongestFirst", "by_length"]

LONG_TESTS = Path(__file__).with_name("long_tests.txt")
_LONG_S = 3.0
_SHORT_S = 0.05
# Files whose tests share what takes long to make, and what they share.
_TOGETHER = {
    "tests/airflow/test_dag_test.py": "an Airflow",
    "tests/airflow/test_provider.py": "an Airflow",
    "tests/airflow/test_standalone.py": "an Airflow",
    "tests/airflow/test_wait_first.py": "an Airflow",
    "tests/airflow/test_demo.py": "a demo",
    "tests/chaos/test_chaos.py": "a broker to break, in chaos",
    "tests/chaos/test_known_bad.py": "a broker to break, by bad workers",
    "tests/deploy/test_on_a_real_prometheus.py": "a Prometheus",
    "tests/kafka/test_broker.py": "a broker",
    "tests/kafka/test_doctor.py": "a broker with users",
    "tests/kafka/test_letters_spooled.py": "a broker with users",
    "tests/kafka/test_refused_clients.py": "a broker with users",
}


def seconds() -> dict[str, float]:
    """Return how long each long test takes, by its id."""
    lines = LONG_TESTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" ", 1) for line in lines if line[:1].isdigit())
    return {test: float(took) for took, test in pairs}


def unit_of(test: str, known: dict[str, float]) -> str:
    """Return what a test is given out with: itself if it is long, else the others of its file."""
    file = test.partition("::")[0]
    shared = _TOGETHER.get(file)
    return shared or (test if test in known else file)


def by_length(tests: Iterable[str]) -> dict[str, list[str]]:
    """Return the tests of each unit, the longest unit first."""
    known = seconds()
    units: dict[str, list[str]] = {}
    lengths: dict[str, float] = {}
    for test in tests:
        unit = unit_of(test, known)
        units.setdefault(unit, []).append(test)
        lengths[unit] = lengths.get(unit, 0.0) + known.get(test, _SHORT_S)
    return {unit: units[unit] for unit in sorted(units, key=lambda unit: -lengths[unit])}


class LongestFirst(LoadScopeScheduling):  # type: ignore[misc]  # as above
    """Gives out units of tests, the longest first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid, self._known)

    def schedule(self) -> None:
        if self.collection is None:
            self._known = seconds()
            self._died_in: set[str] = set()
            # Ours is the order in which they were collected.
            self.config.option.loadscopereorder = False
        super().schedule()

    def remove_node(self, node: Any) -> str | None:  # noqa: ANN401 - xdist's
        """Take out a process that ended; the test that it died in, xdist reports as failed.

        xdist would give it to the next process, which dies in it as well, and to the one after it.
        """
        given = self.assigned_work.get(node, {}).values()
        open_tests = (test for unit in given for test, done in unit.items() if not done)
        self._died_in.update(islice(open_tests, 1))
        crashed: str | None = super().remove_node(node)
        return crashed

    def _assign_work_unit(self, node: Any) -> None:  # noqa: ANN401 - xdist's
        unit = next(iter(self.workqueue.values()))
        unit.update(dict.fromkeys(self._died_in & unit.keys(), True))
        if not all(unit.values()):
            super()._assign_work_unit(node)
            return
        self.workqueue.popitem(last=False)
        self._reschedule(node)


def order(items: list[pytest.Item]) -> None:
    """Put tests into the order in which `LongestFirst` is to give them out."""
    units = by_length(item.nodeid for item in items)
    tests = [test for unit in units.values() for test in unit]
    places = {test: at for at, test in enumerate(tests)}
    items.sort(key=lambda item: places[item.nodeid])


def main(report: str, what: str = "tests") -> None:
    """Print the long tests of a run, or with `folders` how long those of each folder took."""
    took: dict[str, float] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - our own report
        test = f"{str(case.get('classname')).replace('.', '/')}.py::{case.get('name')}"
        took[test] = float(str(case.get("time")))
    if what == "folders":
        by_folder: dict[str, float] = {}
        for test, length_s in took.items():
            folder = "/".join(test.split("/")[:2])
            by_folder[folder] = by_folder.get(folder, 0.0) + length_s
        took = by_folder
    for test, length_s in sorted(took.items(), key=lambda pair: -pair[1]):
        if length_s >= _LONG_S or what == "folders":
            sys.stdout.write(f"{length_s:.0f} {test}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
