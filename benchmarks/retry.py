"""Retries of one call against a hand-written loop, backoff, stamina and tenacity: N1.

Prints one JSON line per figure, as a ratio taken in one run: each round measures every way once,
and the median of the rounds' ratios is told, with the median time of each beside it. Usage:
python benchmarks/retry.py [--rounds N]. Needs no broker; takes about half a minute.

Each library is used as its own pages show it: four attempts, after a ConnectionError only. What
stamina would log at each retry is switched off. backoff works, though its last release is of
October 2022 and names Python up to 3.10 only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

import backoff
import stamina
import tenacity

from redrive.retry import RetryConfig, attempts, retry, retry_async

Call = Callable[[], Awaitable[object]]
Times = dict[str, list[float]]

ATTEMPTS = 4
# Nobody waits: what is measured is the work around the call.
CONFIG = RetryConfig(max_retries=ATTEMPTS - 1, initial_delay=0, max_delay=0)
THEIRS = {"backoff": ">= 5", "stamina": ">= 40", "tenacity": ">= 50"}
ROUND_NS = 20_000_000
# Whoever awaits has asyncio already, which takes longer than any of these.
IMPORT = "import asyncio, time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


class Work:
    """What is called: fails so often with a fault that passes, succeeds, and begins again."""

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self._failed = 0

    def now(self) -> int:
        if self._failed < self._failures:
            self._failed += 1
            raise ConnectionResetError
        self._failed = 0
        return 1

    async def later(self) -> int:
        return self.now()


def by_hand(work: Call) -> Call:
    async def call() -> object:
        for number in range(1, ATTEMPTS + 1):
            try:
                return await work()
            except ConnectionError:
                if number == ATTEMPTS:
                    raise
                await asyncio.sleep(0)
        raise AssertionError

    return call


def by_hand_sync(work: Callable[[], object]) -> Callable[[], object]:
    def call() -> object:
        for number in range(1, ATTEMPTS + 1):
            try:
                return work()
            except ConnectionError:
                if number == ATTEMPTS:
                    raise
                time.sleep(0)
        raise AssertionError

    return call


def by_attempts(work: Call) -> Call:
    async def call() -> object:
        async for attempt in attempts(CONFIG):
            with attempt:
                return await work()
        raise AssertionError

    return call


def ways(work: Call) -> dict[str, Call]:
    """Return each way to retry the same work."""
    with_stamina = stamina.retry(
        on=ConnectionError, attempts=ATTEMPTS, wait_initial=0, wait_max=0, wait_jitter=0
    )
    with_tenacity = tenacity.retry(
        retry=tenacity.retry_if_exception_type(ConnectionError),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_none(),
    )
    with_backoff = backoff.on_exception(
        backoff.constant, ConnectionError, max_tries=ATTEMPTS, interval=0, jitter=None
    )
    return {
        "by_hand": by_hand(work),
        # A lambda costs what a call written in place does, within 5 %; a partial 100 ns more.
        "retry_async": lambda: retry_async(work, config=CONFIG),
        "@retry": retry(CONFIG)(work),
        "attempts": by_attempts(work),
        "backoff": with_backoff(work),
        "stamina": with_stamina(work),
        "tenacity": with_tenacity(work),
    }


async def ns_per_call(call: Call, calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(calls):
        await call()
    return (time.perf_counter_ns() - start) / calls


async def measure(each: dict[str, Call], rounds: int) -> Times:
    """Return nanoseconds per call: every way once a round, for about equally long."""
    calls = {name: max(int(ROUND_NS / await ns_per_call(each[name], 500)), 100) for name in each}
    times: Times = {name: [] for name in each}
    for _ in range(rounds):
        for name, call in each.items():
            times[name].append(await ns_per_call(call, calls[name]))
    return times


def measure_sync(each: dict[str, Callable[[], object]], rounds: int) -> Times:
    times: Times = {name: [] for name in each}
    for _ in range(rounds):
        for name, call in each.items():
            start = time.perf_counter_ns()
            for _ in range(50_000):
                call()
            times[name].append((time.perf_counter_ns() - start) / 50_000)
    return times


def measure_imports(modules: dict[str, str], rounds: int) -> Times:
    """Return milliseconds to import each in an interpreter that has just started."""
    times: Times = {name: [] for name in modules}
    for _ in range(rounds):
        for name, module in modules.items():
            command = [sys.executable, "-c", IMPORT.format(module)]
            told = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this interpreter
            times[name].append(float(told.stdout) * 1000)
    return times


def show(what: str, times: Times, over: str, under: str, goal: str | None = None) -> None:
    ratios = (a / b for a, b in zip(times[over], times[under], strict=True))
    line = {
        "figure": "N1",
        "what": f"{over} / {under}, {what}",
        "value": round(statistics.median(ratios), 2),
        **({"goal": goal} if goal else {}),
        over: round(statistics.median(times[over]), 2),
        under: round(statistics.median(times[under]), 2),
    }
    print(json.dumps(line), flush=True)


async def main(rounds: int) -> None:
    versions = {name: version(name) for name in ("redrive", *THEIRS)}
    machine = {"machine": platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({**machine, "python": platform.python_version(), **versions}))
    stamina.instrumentation.set_on_retry_hooks([])

    success = await measure(ways(Work(0).later), rounds)
    for ours, goal in (("retry_async", "<= 2"), ("@retry", None), ("attempts", None)):
        show("success, ns", success, ours, "by_hand", goal)
    for name, goal in THEIRS.items():
        show("success, ns", success, name, "retry_async", goal)

    work = Work(0).now
    sync = measure_sync({"by_hand": by_hand_sync(work), "@retry": retry(CONFIG)(work)}, rounds)
    show("success, not async, ns", sync, "@retry", "by_hand")

    failing = await measure(ways(Work(2).later), rounds)
    for name in ("by_hand", "attempts", *THEIRS):
        show("two failures, then success, ns", failing, name, "retry_async")

    modules = {"redrive.retry": "redrive.retry", **{name: name for name in THEIRS}}
    imports = measure_imports(modules, rounds)
    for name in THEIRS:
        show("import, ms", imports, name, "redrive.retry")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=25)
    sys.exit(asyncio.run(main(arguments.parse_args().rounds)))
