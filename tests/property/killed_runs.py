"""Cases whose processes are really killed: a child is forked for each attempt.

    python -m tests.property.killed_runs FOLDER < cases > played

Both are pickled, as lists: `(seed, Case)`, and `Played` for each of them. A process of its own,
since one with threads must not fork.
"""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random

from langgraph.checkpoint.memory import InMemorySaver
from tests.property.disturbed_runs import Store, attempt, in_a_worker, not_as_undisturbed
from tests.property.random_cases import Case
from tests.property.watched_runs import Execution, Watch, is_stored, run_again

from redrive.graphs import Ended

__all__ = ["Played", "killed_runs", "main"]

ROOT = Path(__file__).parents[2]
_KILLS = 3
_LATEST_S = 0.004


@dataclass(frozen=True, slots=True)
class Played:
    """How often a process of a case was killed, and what went wrong."""

    kills: int
    wrong: list[str]


def killed_runs(cases: Sequence[tuple[int, Case]], folder: Path) -> list[Played]:
    """Play each case in processes that are killed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.property.killed_runs", str(folder)],
        input=pickle.dumps(cases),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    played: list[Played] = pickle.loads(done.stdout)  # noqa: S301 - our own child's
    return played


def _play(seed: int, case: Case, folder: Path) -> Played:
    dice = Random(seed)
    child = _Child(case, folder / f"{seed}.db", folder / f"{seed}.txt")
    wrong: list[str] = []
    for kills in range(_KILLS + 1):
        before = child.stored()
        end, ran = child.attempt(_random_kill(dice, case) if kills < _KILLS else None)
        wrong += [told for at in ran if (told := run_again(at, before))]
        if isinstance(end, Ended):
            wrong += not_as_undisturbed(case, end, child.executions, child.stored())
            return Played(kills, wrong)
        if end is not None:
            break
    return Played(kills, [*wrong, f"its last attempt came to {end}"])


def _random_kill(dice: Random, case: Case) -> tuple[int, float]:
    after = dice.randint(1, case.executed.total())
    return after, dice.choice([0.0, dice.uniform(0, _LATEST_S)])


class _Child:
    """Runs attempts of one case, each in a process of its own: only files are common to them."""

    def __init__(self, case: Case, database: Path, journal: Path) -> None:
        self._case = case
        self._store = Store(InMemorySaver(), database)
        self._journal = journal
        self._database = database
        self.executions: list[Execution] = []

    def attempt(self, kill: tuple[int, float] | None) -> tuple[object, list[Execution]]:
        """Run one; return its end, or None if it was killed, and what was executed.

        Args:
            kill: After so many executions, and so many seconds after that.
        """
        self._journal.write_bytes(b"")
        ended = self._journal.with_suffix(".end")
        ended.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            try:
                ended.write_bytes(pickle.dumps(self._run(kill)))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        lines = self._journal.read_text(encoding="utf-8").splitlines()
        ran = [Execution(tp, task, ()) for tp, _, task in (at.partition(" ") for at in lines)]
        self.executions += ran
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return None, ran
        return pickle.loads(ended.read_bytes()), ran  # noqa: S301 - our own child's

    def _run(self, kill: tuple[int, float] | None) -> object:
        count = 0

        def told(execution: Execution) -> None:
            nonlocal count
            count += 1
            os.write(journal, f"{execution.tp} {execution.task}\n".encode())
            if kill is not None and count == kill[0]:
                if not kill[1]:
                    _die(0)
                threading.Thread(target=_die, args=(kill[1],), daemon=True).start()

        journal = os.open(self._journal, os.O_WRONLY | os.O_APPEND)
        with in_a_worker() as runner:
            end = runner.run(attempt(self._case.graph, self._store, Watch(told=told)))
        return end if isinstance(end, Ended) else repr(end)

    def stored(self) -> set[str]:
        """Return the tasks whose results are kept."""
        if not self._database.exists():
            return set()
        written = defaultdict(set)
        with closing(sqlite3.connect(self._database)) as connection:
            for task, channel in connection.execute("SELECT task_id, channel FROM writes"):
                written[task].add(channel)
        return {task for task, channels in written.items() if is_stored(channels)}


def _die(after_s: float) -> None:
    time.sleep(after_s)
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str) -> None:
    """Play what comes in."""
    cases: list[tuple[int, Case]] = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our parent
    played = [_play(seed, case, Path(folder)) for seed, case in cases]
    sys.stdout.buffer.write(pickle.dumps(played))


if __name__ == "__main__":
    # By the name that the parent knows it by: it unpickles what is made here.
    import_module("tests.property.killed_runs").main(*sys.argv[1:])
