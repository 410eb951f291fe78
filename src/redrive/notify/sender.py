"""One channel's thread: a bounded queue, retries with a bound, a time limit for each send.

A channel that hangs or refuses delays no other, and never who offers. What it does not get is
counted, and told in the next message that gets through.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime
from typing import Protocol

import structlog

from redrive.clock import Clock
from redrive.errors import NotifyError
from redrive.notify.message import Lost, Message, MessageLevel
from redrive.retry.call import retry
from redrive.retry.retrier import Retrier
from redrive.retry.retry_config import RetryConfig

__all__ = ["RETRIES", "Sender", "Sink"]

log = structlog.get_logger("redrive.notify")

MOST_WAITING = 100
# Sends that did not return in time: nothing ends their threads, so there are no more of them.
MOST_HANGING = 3
# For about five minutes.
RETRIES = RetryConfig(max_retries=10, initial_delay=1.0, max_delay=60.0)
_REMINDER = Message(
    "redrive: messages were lost", "This channel did not accept them.", MessageLevel.WARNING
)


class Sink(Protocol):
    """A way to people; may block for long, and may be called by several threads at a time."""

    def send(self, message: Message) -> None:
        """Deliver the message.

        Raises:
            NotifyError: It was not delivered.
        """
        ...


class Sender:
    """Sends what is offered to one channel, one message after the other, on threads of its own.

    Args:
        name: The channel's name.
        sink: Where to.
        limit_s: How long one send may take, in seconds. One that takes longer counts as failed,
            and may yet arrive: so a message can come twice.
        clock: Rolls the dice for the waits between retries.
        config: How often a message is tried.
        remind_s: So long after messages were lost the channel is told of that, if nothing else is
            to be told.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        *,
        limit_s: float,
        clock: Clock,
        config: RetryConfig = RETRIES,
        remind_s: float = 60.0,
    ) -> None:
        self.name = name
        self.sent = 0
        """How many messages were delivered."""
        self.dropped = Lost()
        """What was not."""
        self._untold = Lost()
        self._sink = sink
        self._limit_s = limit_s
        self._remind_s = remind_s
        self._changed = threading.Condition()
        self._waiting: deque[Message] = deque()
        self._current: Message | None = None
        self._closing = threading.Event()
        self._failing = False
        self._hanging: list[_ChannelCall] = []
        self._send = retry(Retrier(config, clock=_Interrupted(clock, self._closing)))(self._try)
        self._thread = threading.Thread(target=self._run, name=f"notify-{name}", daemon=True)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to send."""
        with self._changed:
            return not self._left()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def offer(self, message: Message) -> None:
        """Send this soon; when too many wait, the oldest is dropped. Never blocks."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._drop(self._waiting.popleft())
            self._waiting.append(message)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait no more between retries; end once nothing is left."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()

    def join(self, timeout_s: float) -> Lost:
        """Wait until nothing is left, and return what nobody was told; to be called once closed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._left(), timeout_s)
            return sum((Lost(1, message.failures) for message in self._left()), self._untold)

    def _left(self) -> list[Message]:
        return [*([] if self._current is None else [self._current]), *self._waiting]

    def _run(self) -> None:
        while (message := self._next()) is not None:
            self._deliver(message)

    def _next(self) -> Message | None:
        with self._changed:
            self._current = None
            self._changed.notify_all()
            while not self._waiting:
                if self._closing.is_set():
                    return None
                if not self._changed.wait(self._remind_s if self._untold else None):
                    self._current = _REMINDER
                    return _REMINDER
            self._current = self._waiting.popleft()
            return self._current

    def _deliver(self, message: Message) -> None:
        untold = self._untold
        try:
            self._send(message.after(untold))
        except Exception:  # noqa: BLE001 - a background task; why, was logged when it began
            with self._changed:
                self._drop(message)
            return
        with self._changed:
            self.sent += 1
            self._untold -= untold
        if self._failing:
            log.info("notify.channel_recovered", channel=self.name, lost=untold.messages)
        self._failing = False

    def _drop(self, message: Message) -> None:
        if message is _REMINDER:
            return
        log.warning(
            "notify.message_lost",
            channel=self.name,
            title=message.title,
            letters=message.failures,
        )
        lost = Lost(1, message.failures)
        self.dropped += lost
        self._untold += lost

    def _try(self, message: Message) -> None:
        try:
            self._try_once(message)
        except Exception as error:
            if not self._failing:
                log.warning("notify.channel_failing", channel=self.name, error=str(error))
            self._failing = True
            raise

    def _try_once(self, message: Message) -> None:
        self._hanging = [call for call in self._hanging if not call.ended(0)]
        if len(self._hanging) >= MOST_HANGING:
            raise NotifyError(f"{MOST_HANGING} earlier messages are still being sent")
        call = _ChannelCall(self._sink, message, name=self.name)
        if not call.ended(self._limit_s):
            self._hanging.append(call)
            raise NotifyError(f"not sent within {self._limit_s:g} s")
        if call.error is not None:
            raise call.error


class _ChannelCall:
    """One send, on a thread of its own, which may be left to itself."""

    def __init__(self, sink: Sink, message: Message, *, name: str) -> None:
        self.error: Exception | None = None
        self._sink = sink
        self._message = message
        self._ended = threading.Event()
        threading.Thread(target=self._run, name=f"notify-{name}-send", daemon=True).start()

    def ended(self, timeout_s: float) -> bool:
        """Wait for the end; say whether it came."""
        return self._ended.wait(timeout_s)

    def _run(self) -> None:
        try:
            self._sink.send(self._message)
        except Exception as error:  # noqa: BLE001 - turned into data: who waits raises it
            self.error = error
        self._ended.set()


class _Interrupted:
    """A clock whose waits end when all is to end."""

    def __init__(self, clock: Clock, closing: threading.Event) -> None:
        self._clock = clock
        self._closing = closing

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def random(self) -> float:
        return self._clock.random()

    def new_id(self) -> str:
        return self._clock.new_id()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def block(self, seconds: float) -> None:
        self._closing.wait(seconds)
