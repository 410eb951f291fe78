"""What is sent while things go wrong: bursts of events from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from redrive.events import WorkflowEvent
from redrive.testing.stage import event

__all__ = ["Burst", "Make", "any_fate", "make_load"]

Make = Callable[[random.Random], WorkflowEvent | bytes]

_BURST = 12
_FATES = {"success": 10, "sleep": 6, "transient": 3, "permanent": 2, "unreadable": 1}


@dataclass(frozen=True, slots=True)
class Burst:
    """Events that are sent together, `at_s` seconds after the begin."""

    at_s: float
    values: tuple[WorkflowEvent | bytes, ...]


def make_load(
    seed: int, *, events: int, seconds: float, make: Make | None = None
) -> tuple[Burst, ...]:
    """Return `events` events in bursts over `seconds`; equal seeds ask for equal things.

    Args:
        seed: Any number. Ids and times of events are new each time.
        events: How many.
        seconds: When the last burst is sent at the latest.
        make: Makes an event from dice; by default one of any fate, see `any_fate`.
    """
    dice = random.Random(seed)  # noqa: S311 - no secret
    made = [(make or any_fate)(dice) for _ in range(events)]
    bursts: list[Burst] = []
    while made:
        size = dice.randint(1, _BURST)
        bursts.append(Burst(round(dice.uniform(0, seconds), 2), tuple(made[:size])))
        del made[:size]
    return tuple(sorted(bursts, key=lambda burst: burst.at_s))


def any_fate(dice: random.Random) -> WorkflowEvent | bytes:
    """Return an event whose `data` says what its graph is to do; some cannot be read.

    `fate` is `success`, `sleep` (for `seconds`), `transient` (fails once) or `permanent` (fails).
    """
    (fate,) = dice.choices(list(_FATES), list(_FATES.values()))
    if fate == "unreadable":
        return b"{not JSON"
    seconds = round(dice.uniform(0.05, 1.5), 2)
    return event({"fate": fate, "seconds": seconds} if fate == "sleep" else {"fate": fate})
