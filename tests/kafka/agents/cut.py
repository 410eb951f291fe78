"""Lives of a worker, each killed with -9 at one step of settling: `python cut.py worker ...`.

CUTS names the steps, one for each life, each with the batch from which on it kills: `flush:3`. A
last life is not killed. A file `killed.<life>` says that it happened: how many node executions had
begun by then, and which runs were about to be settled, a line each. CUT_BY=SIGSTOP freezes it
instead, while it settles results, and writes its process id to `frozen`. Every life is a process of
its own, forked off this one, which has loaded all there is.
"""

import ctypes
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from redrive.cli import main
from redrive.kafka.connect import make_producer
from redrive.testing.journal import read_journal
from redrive.wiring import parts

BY = os.environ.get("CUT_BY", "SIGKILL")
EXECUTIONS, FROZEN = Path("executions.log"), Path("frozen")
CHECKPOINTS = Path("checkpoints.db")
NEVER = ("never", 0)
_DIE_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG."""


class CutProducer:
    """A producer, until the step at which its process is killed."""

    def __init__(self, producer: Producer, step: str, batch: int, proof: Path) -> None:
        self._producer: Any = producer
        self._step, self._from, self._proof = step, batch, proof
        self._batch = 0
        self._about: list[str] = []

    def init_transactions(self, *args: object) -> None:
        self._producer.init_transactions(*args)
        self._batch = self._from
        self._cut_at("init")
        self._batch = 0

    def begin_transaction(self) -> None:
        self._batch += 1
        self._about.clear()
        self._cut_at("nothing")
        self._producer.begin_transaction()
        self._cut_at("begin")

    def produce(self, topic: str, *, key: bytes | None, **more: object) -> None:
        self._producer.produce(topic, key=key, **more)
        if topic == os.environ["REDRIVE_KAFKA__RESULTS_TOPIC"]:
            self._about.append((key or b"").decode())
        self._cut_at("produce")

    def send_offsets_to_transaction(self, *args: object) -> None:
        self._producer.send_offsets_to_transaction(*args)
        self._cut_at("send_offsets")

    def flush(self, *args: object) -> int:
        left: int = self._producer.flush(*args)
        self._cut_at("flush")
        return left

    def commit_transaction(self, *args: object) -> None:
        # While the request is under way: nobody knows whether the broker has it.
        threading.Timer(0.002, self._cut_at, ["committing"]).start()
        self._producer.commit_transaction(*args)
        self._cut_at("commit")

    def __getattr__(self, name: str) -> object:
        return getattr(self._producer, name)

    def _cut_at(self, step: str) -> None:
        # Once only: a frozen one is woken, and may open another producer.
        if BY == "SIGSTOP" and (not self._about or FROZEN.exists()):
            return
        if step == self._step and self._batch >= self._from:
            begun = len(read_journal(EXECUTIONS))
            self._proof.write_text("\n".join([str(begun), *self._about]))
            if BY == "SIGSTOP":
                _let_go_of_checkpoints()
            FROZEN.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.Signals[BY])


def _let_go_of_checkpoints() -> None:
    """Wait until nobody writes: who is frozen with the file's lock keeps everybody from it."""
    if CHECKPOINTS.exists():
        with closing(sqlite3.connect(CHECKPOINTS, timeout=30, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            file.execute("ROLLBACK")


def lives() -> Iterator[tuple[str, int]]:
    for cut in os.environ["CUTS"].split(","):
        step, batch = cut.split(":")
        yield step, int(batch)
    yield NEVER


def live(step: str, batch: int, proof: Path) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    vars(parts)["make_producer"] = lambda config: CutProducer(
        make_producer(config), step, batch, proof
    )
    main()


def run() -> int:
    code = 0
    for number, (step, batch) in enumerate(lives()):
        child = os.fork()
        if not child:
            live(step, batch, Path(f"killed.{number}"))
        signal.signal(signal.SIGTERM, lambda *_, child=child: os.kill(child, signal.SIGTERM))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGKILL:
            break
    return code


if __name__ == "__main__":
    sys.exit(run())
