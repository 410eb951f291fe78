"""A thread that reads from Kafka now and then, with a consumer that is there only meanwhile.

The consumer belongs to no group and moves nobody's position. What cannot be read now is read later,
with a new consumer each time. What is wanted is its owner's; so is the condition that guards it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from confluent_kafka import Consumer

from redrive.clock import Clock

__all__ = ["ReaderThread"]

_IDLE_S = 30.0
_AGAIN_S = 1.0
_CLOSE_S = 2.0


class ReaderThread:
    """Reads while something is wanted; `wake`, `close` and `join` may be called from any thread.

    Args:
        name: Of the thread.
        make_consumer: Builds a consumer that is assigned by hand; called on the thread.
        wanted: Whether there is something to read; called with `changed` held.
        read: Reads what is wanted now, on the thread.
        failed: Hears why it could not, on the thread.
        clock: For waits.
    """

    def __init__(
        self,
        name: str,
        make_consumer: Callable[[], Consumer],
        *,
        wanted: Callable[[], bool],
        read: Callable[[Consumer], None],
        failed: Callable[[Exception], None],
        clock: Clock,
    ) -> None:
        self.changed = threading.Condition()
        """To be held by whoever changes what is wanted."""
        self.is_closed = False
        self._name = name
        self._make_consumer = make_consumer
        self._wanted = wanted
        self._read = read
        self._failed = failed
        self._clock = clock
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Go to work: something more is wanted. Called with `changed` held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self.changed.notify()

    def close(self) -> None:
        """Read nothing more at all; the thread ends by itself. Called with `changed` held."""
        self.is_closed = True
        self.changed.notify()

    def join(self) -> None:
        """Wait until the thread has ended, for two seconds at most."""
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while self._wait_for_work(None):
            try:
                consumer = self._make_consumer()
                try:
                    while self._wait_for_work(_IDLE_S):
                        self._read(consumer)
                finally:
                    consumer.close()
            except Exception as error:  # noqa: BLE001 - a thread's edge: it is told, and tried again
                self._failed(error)
                self._clock.block(_AGAIN_S)

    def _wait_for_work(self, limit_s: float | None) -> bool:
        with self.changed:
            self.changed.wait_for(lambda: self._wanted() or self.is_closed, limit_s)
            return self._wanted() and not self.is_closed
