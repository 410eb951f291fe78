"""Masking of secrets: an ordinary text of 2 kB, and hostile ones beside it.

Prints one JSON line per figure: the time, and as a ratio what it is to formatting the traceback
that the text comes from. Of hostile texts of 60,000 characters the slowest are told, by their time
for a character as a ratio to that of the ordinary text. Last, a
failure of each such text is told as a worker tells it: what the event loop spends on the worst, and
for how long it waits at once.

Usage: python benchmarks/masking.py. Needs no broker; takes half a minute.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import timeit
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.secret_kinds import HOSTILE

from redrive.aside import Aside
from redrive.dead_letter.failure_text import failure_text
from redrive.retry import classify
from redrive.retry.kinds import Kind
from redrive.telemetry.redactor import BUILT_IN

ORDINARY_CHARS, HOSTILE_CHARS = 2_000, 60_000
CALLS, ROUNDS = 200, 5
NOTES, TURN_S = 16, 0.001


def us(call: Callable[[], object]) -> float:
    took = min(timeit.repeat(call, number=CALLS, repeat=ROUNDS, timer=time.process_time))
    return took / CALLS * 1e6


def failed() -> Exception:
    try:
        json.loads('{"url": https://api.example.com/v1/charges?limit=10&order=abc}')
    except ValueError as cause:
        try:
            refuse(cause)
        except RuntimeError as error:
            return error
    raise AssertionError


def refuse(cause: Exception) -> None:
    raise RuntimeError("Client error '429 Too Many Requests' for /v1/charges") from cause


def hostile_failure(piece: str) -> Exception:
    text = piece * (HOSTILE_CHARS // len(piece) + 1)
    try:
        try:
            raise ValueError(text)  # noqa: TRY301 - it is to have a traceback
        except ValueError as cause:
            error = RuntimeError(f"{text} again")
            for number in range(NOTES):
                error.add_note(f"{number} {text}")
            raise error from cause
    except RuntimeError as raised:
        return raised


async def told(error: Exception) -> tuple[float, float]:
    """Tell a failure aside; return what the loop spent, and its longest wait, in milliseconds."""
    longest_s = 0.0

    async def turn() -> None:
        nonlocal longest_s
        while True:
            began = time.monotonic()
            await asyncio.sleep(TURN_S)
            longest_s = max(longest_s, time.monotonic() - began - TURN_S)

    turning = asyncio.create_task(turn())
    began = time.thread_time()

    def tell() -> object:
        return classify(error), failure_text(error, kind=Kind.UNKNOWN, node="n", workflow_id="w")

    await Aside(limit_s=600).call(tell)
    spent_s = time.thread_time() - began
    turning.cancel()
    return spent_s * 1e3, longest_s * 1e3


async def tell_all() -> None:
    found = [(*await told(hostile_failure(piece)), piece) for piece in HOSTILE]
    spent_ms, _, piece = max(found)
    figure = f"the event loop spends, while a failure is told that says {piece!r}"
    print(json.dumps({"figure": figure, "ms": round(spent_ms, 1)}))
    longest_ms, piece = max((longest_ms, piece) for _, longest_ms, piece in found)
    figure = f"the event loop waits at once, while a failure is told that says {piece!r}"
    print(json.dumps({"figure": figure, "ms": round(longest_ms, 1)}))


def main() -> None:
    error = failed()
    text = "".join(traceback.format_exception(error))
    ordinary = (text * (ORDINARY_CHARS // len(text) + 1))[:ORDINARY_CHARS]
    masking = us(lambda: BUILT_IN.mask(ordinary))
    formatting = us(lambda: traceback.format_exception(error)) * ORDINARY_CHARS / len(text)
    print(
        json.dumps(
            {
                "figure": "masking an ordinary text of 2 kB",
                "us": round(masking),
                "ratio_to_formatting_its_traceback": round(masking / formatting, 2),
            }
        )
    )
    slow = []
    for piece in HOSTILE:
        hostile = (piece * (HOSTILE_CHARS // len(piece) + 1))[:HOSTILE_CHARS]
        began = time.process_time()
        BUILT_IN.mask(hostile)
        slow.append(((time.process_time() - began) * 1e6 / HOSTILE_CHARS, piece))
    each = masking / ORDINARY_CHARS
    for us_a_char, piece in sorted(slow, reverse=True)[:5]:
        print(
            json.dumps(
                {
                    "figure": f"masking {HOSTILE_CHARS} characters of {piece!r}",
                    "ms": round(us_a_char * HOSTILE_CHARS / 1e3, 1),
                    "ratio_a_character_to_ordinary": round(us_a_char / each, 1),
                }
            )
        )
    asyncio.run(tell_all())


if __name__ == "__main__":
    main()
