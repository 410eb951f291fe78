"""Retrying a block of code: `for attempt in attempts(…)` and `async for attempt in attempts(…)`."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from redrive.retry.config import RetryConfig
from redrive.retry.retrier import Retrier, Tally, retrier_of

__all__ = ["Attempt", "Attempts", "attempts"]


def attempts(config: RetryConfig | Retrier | None = None) -> Attempts:
    """Retry the block of a loop; one call serves one loop.

    ```python
    async for attempt in attempts():
        with attempt:
            return await fetch()
    ```

    In a plain `for` the waits block the thread. The loop ends after the first attempt that raises
    nothing; an error that is not retried is raised as it came, with a note.
    """
    return Attempts(retrier_of(config))


class Attempts:
    """The attempts of one loop, each to be entered with `with`."""

    __slots__ = ("_last", "_retrier", "_tally")

    def __init__(self, retrier: Retrier) -> None:
        self._retrier = retrier
        self._tally: Tally | None = None
        self._last: Attempt | None = None

    def __iter__(self) -> Attempts:
        return self

    def __next__(self) -> Attempt:
        delay_s = self._next_delay_s()
        if delay_s is None:
            raise StopIteration
        if delay_s > 0:
            self._retrier.clock.block(delay_s)
        return self._begin()

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> Attempt:
        delay_s = self._next_delay_s()
        if delay_s is None:
            raise StopAsyncIteration
        if delay_s > 0:
            await self._retrier.clock.sleep(delay_s)
        return self._begin()

    def _next_delay_s(self) -> float | None:
        """Return the seconds to wait, or None when the last attempt succeeded."""
        last = self._last
        if last is None:
            return 0.0
        if not last.entered:
            raise RuntimeError(
                f"attempt {last.number} was never entered: write `with attempt:` inside the loop"
            )
        return last.delay_s

    def _begin(self) -> Attempt:
        if self._tally is None:
            self._tally = Tally(self._retrier, started=self._retrier.clock.monotonic())
        self._tally.begin()
        self._last = Attempt(self._tally)
        return self._last


class Attempt:
    """One attempt. An error that will be retried ends here; any other passes."""

    __slots__ = ("_tally", "delay_s", "entered", "number")

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.number = tally.number
        self.entered = False
        self.delay_s: float | None = None

    def __enter__(self) -> Self:
        self.entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.delay_s = self._tally.fail(error)
        return self.delay_s is not None
