"""What is sent while things go wrong: bursts of events from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from redrive.errors import RecordError
from redrive.events import TRIGGERED, ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.testing.judging import Evidence
from redrive.testing.kafka_env import event

__all__ = ["Burst", "Make", "any_fate", "make_load", "mostly_success", "wrong_endings"]

Make = Callable[[random.Random], WorkflowEvent | bytes]

_BURST, _BURSTS = 12, 80
"""The largest burst of a small load, and about how many bursts a large one has."""
_SUCCEED, _FAIL = {"success", "sleep", "transient"}, {"permanent", "fail"}
_FATES = {"success": 10, "sleep": 6, "transient": 3, "permanent": 2, "unreadable": 1}
_CHEAP = {"success": 96, "transient": 2, "permanent": 1, "unreadable": 1}


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
    largest = max(_BURST, 2 * events // _BURSTS)
    bursts: list[Burst] = []
    while made:
        size = dice.randint(1, largest)
        bursts.append(Burst(round(dice.uniform(0, seconds), 2), tuple(made[:size])))
        del made[:size]
    return tuple(sorted(bursts, key=lambda burst: burst.at_s))


def any_fate(dice: random.Random) -> WorkflowEvent | bytes:
    """Return an event whose `data` says what its graph is to do; some cannot be read.

    `fate` is `success`, `sleep` (for `seconds`), `transient` (fails once) or `permanent` (fails).
    `fail`, which fails each time as if it could pass, is not among them.
    """
    return _of_fates(dice, _FATES)


def mostly_success(dice: random.Random) -> WorkflowEvent | bytes:
    """Return an event as `any_fate` does, for large loads: nobody sleeps, and four of 100 fail."""
    return _of_fates(dice, _CHEAP)


def _of_fates(dice: random.Random, weights: Mapping[str, int]) -> WorkflowEvent | bytes:
    (fate,) = dice.choices(list(weights), list(weights.values()))
    if fate == "unreadable":
        return b"{not JSON"
    seconds = round(dice.uniform(0.05, 1.5), 2)
    return event({"fate": fate, "seconds": seconds} if fate == "sleep" else {"fate": fate})


def wrong_endings(evidence: Evidence) -> list[str]:
    """Say which events of a known fate did not end that way: nobody is given up without reason."""
    fates = dict(_fate(record.value) for record in evidence.accepted)
    findings = []
    for record in evidence.results:
        result = WorkflowResultEvent.from_bytes(record.value)
        fate = fates.get(result.correlation_id)
        wanted = ResultStatus.ERROR if fate in _FAIL else ResultStatus.SUCCESS
        if fate in _SUCCEED | _FAIL and result.status is not wanted:
            reason = result.error_info.reason if result.error_info else None
            findings.append(
                f"wrong: event {result.correlation_id} of fate {fate!r} ended as "
                f"{result.status.value}, reason {reason}"
            )
    return findings


def _fate(value: bytes | None) -> tuple[str | None, str | None]:
    try:
        asked = WorkflowEvent.from_bytes(value)
    except RecordError:
        return None, None
    fate = (asked.payload.data or {}).get("fate")
    return asked.event_id, fate if asked.event_type == TRIGGERED and isinstance(fate, str) else None
