"""The background task that frees checkpoints: threads that nothing needs, and the file's pages.

What may go is decided in `redrive.graphs.retention`. Each round marks the threads of this worker's
open runs first, so that no sweep, of this process or of another on the same file, takes them for
left behind. [P4]
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from itertools import count
from threading import Thread
from typing import TypeVar

import structlog

from redrive.clock import Clock
from redrive.graphs.checkpoint_file import Deployment
from redrive.graphs.checkpoint_store import Checkpoints
from redrive.telemetry.redactor import BUILT_IN

__all__ = ["SWEEP_EVERY_S", "Sweeping"]

log = structlog.get_logger("redrive.consumer")

T = TypeVar("T")

SWEEP_EVERY_S = 600.0
_WHOLE_ROUNDS = 6
"""Each sixth round, the second first, looks at every thread of the file."""


class Sweeping:
    """Sweeps the checkpoints of a worker, round by round.

    Args:
        checkpoints: Open while `run` runs.
        open_threads: Names the threads of all runs that are open here; called on the loop.
        deployment: Asks the broker how long the topics keep their records; blocks. None where it
            does not say.
        clock: Waits between the rounds.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        open_threads: Callable[[], Collection[str]],
        deployment: Callable[[], Deployment | None],
        clock: Clock,
    ) -> None:
        self._checkpoints = checkpoints
        self._open_threads = open_threads
        self._deployment = deployment
        self._clock = clock

    async def run(self) -> None:
        """Sweep now, and again every ten minutes, until it is cancelled."""
        for number in count():
            try:
                await self._round(whole=number % _WHOLE_ROUNDS == 1)
            except Exception as error:  # noqa: BLE001 - a background task: the next round tries again
                log.warning("checkpoints.not_swept", error=BUILT_IN.mask(str(error)))
            await self._clock.sleep(SWEEP_EVERY_S)

    async def _round(self, *, whole: bool) -> None:
        await self._checkpoints.renew(self._open_threads())
        found = await _beside(self._deployment)
        if found is not None:
            await self._checkpoints.learn(found)
        sweep = self._checkpoints.sweep if whole else self._checkpoints.sweep_finished
        swept = await sweep()
        given = await self._checkpoints.shrink()
        if swept or given:
            log.info("checkpoints.swept", threads=swept, file_shrank_bytes=given)


async def _beside(call: Callable[[], T]) -> T:
    """Call it on a thread that nobody waits for at the end of the process. [P12]."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def give(result: T | None, error: Exception | None) -> None:
        if answer.done():
            return  # Whoever asked was cancelled.
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # an answer without an error

    def ask() -> None:
        result, failed = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - data for the caller, who waits in another thread
            failed = error
        try:
            loop.call_soon_threadsafe(give, result, failed)
        except RuntimeError:
            log.debug("worker.loop_closed")

    Thread(target=ask, name="redrive-retention", daemon=True).start()
    return await answer
