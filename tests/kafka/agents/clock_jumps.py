"""A worker whose wall clock jumps: `python clock_jumps.py worker ...`.

As soon as there is a file `jump`, its wall clock is as many seconds ahead as it says, or behind.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from redrive.cli import main
from redrive.clock import SystemClock

JUMP = Path("jump")


def seconds() -> int:
    try:
        return int(JUMP.read_text())
    except FileNotFoundError:
        return 0


def ahead(of: Callable[[], int], per_second: int) -> Callable[[], int]:
    return lambda: of() + seconds() * per_second


def now(_: SystemClock) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds())


if __name__ == "__main__":
    # This is what jumps.
    setattr(SystemClock, "now", now)  # noqa: B010 - mypy takes no other method here
    # LangGraph makes the ids of checkpoints from this.
    time.time_ns = ahead(time.time_ns, 10**9)
    main()
