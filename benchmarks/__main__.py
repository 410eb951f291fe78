"""`make bench`: every benchmark, one after the other, within twenty minutes; first, the machine.

A benchmark that fails or takes too long is named at the end; the others are run all the same.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
LIMIT_S = 20 * 60.0
ONE_LIMIT_S = 8 * 60.0


def machine() -> dict[str, object]:
    """Return what the figures depend on: processor, cores, memory, and what else goes on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in _lines("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo")), "0")
    return {
        "machine": f"{cpu} ({platform.machine()})",
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> int:
    began, failed = time.monotonic(), list[str]()
    print(json.dumps(machine()), flush=True)
    for file in sorted(HERE.glob("[!_]*.py")):
        print(f"# benchmarks/{file.name}", flush=True)
        left_s = LIMIT_S - (time.monotonic() - began)
        try:
            done = subprocess.run(  # noqa: S603 - our own files
                [sys.executable, str(file)], timeout=min(ONE_LIMIT_S, left_s), check=False
            )
        except subprocess.TimeoutExpired as error:
            failed.append(f"{file.name}: not within {error.timeout:.0f} s")
        else:
            if done.returncode:
                failed.append(f"{file.name}: exit code {done.returncode}")
    took = {"took_s": round(time.monotonic() - began), "load_after": round(os.getloadavg()[0], 2)}
    print(json.dumps({**took, "failed": failed}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
