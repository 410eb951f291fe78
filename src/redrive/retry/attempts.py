"""Retrying a block of code: `for attempt in attempts(…)` and `async for attempt in attempts(…)`."""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn, Self

from redrive.retry.retrier import Retrier, RetryCounts, retrier_of, running_loop
from redrive.retry.retry_config import RetryConfig

__all__ = ["Attempt", "Attempts", "attempts"]


def attempts(config: RetryConfig | Retrier | None = None) -> Attempts:
    """Retry the block of a loop; one call serves one loop.

    ```python
    async for attempt in attempts():
        with attempt:
            return await fetch()
    ```

    In a plain `for` the waits block the thread, so it is refused where an event loop runs. Async
    hooks need `async with attempt`. The loop ends after the first attempt that raises nothing; an
    error that is not retried is raised as it came, with a note.

    Raises:
        RuntimeError: A plain `for` where an event loop runs; a second loop; an attempt that was not
            entered, or twice. Raised by the loop.
        TypeError: A hook is async, and nothing awaits it. Raised before the first attempt.
    """
    return Attempts(retrier_of(config))


class Attempts:
    """The attempts of one loop, each to be entered with `with` or `async with`."""

    __slots__ = ("_last", "_retrier", "_tally")

    def __init__(self, retrier: Retrier) -> None:
        self._retrier = retrier
        self._tally: RetryCounts | None = None
        self._last: Attempt | None = None

    def __iter__(self) -> Attempts:
        if self._last is not None:
            raise _used()
        return self

    def __next__(self) -> Attempt:
        if self._last is None:
            _refuse_in_event_loop()
            self._retrier.hooks.refuse_async("a plain `for`")
        delay_s = self._next_delay_s()
        if delay_s is None:
            raise StopIteration
        if delay_s > 0:
            self._retrier.clock.block(delay_s)
        tally = self._tally = self._tally or self._new_tally()
        tally.begin()
        self._last = Attempt(tally)
        return self._last

    def __aiter__(self) -> Attempts:
        if self._last is not None:
            raise _used()
        return self

    async def __anext__(self) -> Attempt:
        delay_s = self._next_delay_s()
        if delay_s is None:
            raise StopAsyncIteration
        if delay_s > 0:
            await self._retrier.clock.sleep(delay_s)
        tally = self._tally = self._tally or self._new_tally()
        if self._last is not None or self._retrier.hooks.before_attempt is not None:
            await tally.begin_async()
        self._last = Attempt(tally)
        return self._last

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

    def _new_tally(self) -> RetryCounts:
        return RetryCounts(self._retrier, started=self._retrier.clock.monotonic())


class Attempt:
    """One attempt. An error that will be retried ends here; any other passes."""

    __slots__ = ("_tally", "delay_s", "entered", "number")

    def __init__(self, tally: RetryCounts) -> None:
        self._tally = tally
        self.number = tally.number
        self.entered = False
        self.delay_s: float | None = None

    def __enter__(self) -> Self:
        hooks = self._tally.retrier.hooks
        if hooks.async_names:
            hooks.refuse_async("`with attempt`")
        if self.entered:
            self._refuse_again()
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

    async def __aenter__(self) -> Self:
        if self.entered:
            self._refuse_again()
        self.entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.delay_s = await self._tally.fail_async(error)
        return self.delay_s is not None

    def _refuse_again(self) -> NoReturn:
        raise RuntimeError(
            f"attempt {self.number} was entered before: write one `with attempt:` in the loop"
        )


def _used() -> RuntimeError:
    # A second loop would run nothing at all, or go on with the count of the first.
    return RuntimeError("these attempts were used by a loop already: call attempts() for each loop")


def _refuse_in_event_loop() -> None:
    if running_loop() is not None:
        raise RuntimeError(
            "a plain `for` over attempts() waits in its thread and would block the event loop that "
            "runs here: write `async for`, or run the function with `asyncio.to_thread`"
        )
