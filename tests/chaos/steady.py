"""A steady load, and random faults for ever: what a soak does to workers.

The first worker lives all the time: only what it survives is done to it. The second is killed and
asked to end as well. One guest at a time comes and goes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

from redrive.clock import SYSTEM
from redrive.testing.faults import (
    ALL_FAULTS,
    CompactLog,
    CutLog,
    CutWorker,
    Fault,
    HoldWorker,
    JoinMember,
    KillBroker,
    KillWorker,
    LeaveMember,
    LimitWorker,
    LoseAnswer,
    LoseLeader,
    MirrorOffsets,
    OrphanWorker,
    RemakeTopic,
    ResetWorker,
    StopBroker,
    TermWorker,
    TrimLog,
)
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.load import any_fate
from redrive.testing.members import Members

STEADY, MORTAL = 0, 1
_DEADLY = (KillWorker, TermWorker)
# They stop the broker, or kill the worker that is to live, or change what was accepted.
_LEFT_OUT = (
    StopBroker,
    KillBroker,
    OrphanWorker,
    RemakeTopic,
    CutLog,
    TrimLog,
    CompactLog,
    LoseLeader,
    MirrorOffsets,
)
# Each may leave a call behind that hangs for ever, and a worker is to be replaced after many.
_CUTTING = (CutWorker, HoldWorker, ResetWorker, LoseAnswer, LimitWorker)
_KINDS = [kind for kind in ALL_FAULTS if kind not in _LEFT_OUT]
_GAP_S = (3.0, 15.0)
_FIRST = 200


def faults(seed: int) -> Iterator[tuple[float, Fault]]:
    """Go on for ever: a pause in seconds, and what then goes wrong. At most one guest at a time."""
    dice = random.Random(seed)
    guest = False
    while True:
        kind = dice.choice(_KINDS)
        if kind is (JoinMember if guest else LeaveMember):
            continue
        if kind in (JoinMember, LeaveMember):
            guest = not guest
        spared = 1.0 if kind in _DEADLY else 0.8 if kind in _CUTTING else 0.5
        worker = MORTAL if dice.random() < spared else STEADY
        yield dice.uniform(*_GAP_S), ALL_FAULTS[kind](dice, worker)


class Load(threading.Thread):
    """Sends events each second, and first a burst that fills what is filled on demand."""

    def __init__(self, env: KafkaEnv, rate: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._env, self._rate = env, rate
        self._dice = random.Random(seed)
        self._ended = threading.Event()
        self.sent = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._send(_FIRST)
            while not self._ended.wait(1.0):
                self._send(self._rate)
        except Exception as error:  # noqa: BLE001 - a thread's edge: `finish` raises it
            self.error = error

    def _send(self, count: int) -> None:
        self._env.send([any_fate(self._dice) for _ in range(count)])
        self.sent += count

    def finish(self) -> None:
        self._ended.set()
        self.join(60)
        if self.error is not None:
            raise self.error


class Breaker:
    """Begins a fault when its time has come, and ends it, one after the other."""

    def __init__(self, members: Members, seed: int) -> None:
        self._members = members
        self._faults = faults(seed)
        self._now: Fault | None = None
        self.done = 0
        self._at_s, self._next = self._planned()

    def turn(self) -> None:
        if SYSTEM.monotonic() < self._at_s:
            return
        if self._now is None:
            self._members.replace_dead()
            self._now = self._next
            self._members.begin(self._now)
            self._at_s = SYSTEM.monotonic() + self._now.seconds
        else:
            self.end()
            self._at_s, self._next = self._planned()

    def end(self) -> None:
        if self._now is not None:
            self._members.end(self._now)
            self._now = None
            self.done += 1

    def _planned(self) -> tuple[float, Fault]:
        pause_s, fault = next(self._faults)
        return SYSTEM.monotonic() + pause_s, fault
