"""What a worker says of itself to its parent, as one line; and the thread that says it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import structlog

from redrive.consumer.health import Check
from redrive.telemetry.carrying import from_plain, to_plain
from redrive.telemetry.instruments import Sample

__all__ = ["Reporter", "WorkerReport"]

log = structlog.get_logger("redrive.worker")

_EVERY_S = 0.2
_LAST_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How a worker stands at one moment."""

    alive: Check
    ready: Check
    samples: tuple[Sample, ...] = ()

    def to_line(self) -> bytes:
        """Return it as a line of JSON, without the end of the line."""
        checks = [[check.ok, check.why] for check in (self.alive, self.ready)]
        return json.dumps([*checks, to_plain(self.samples)], separators=(",", ":")).encode()

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Return what `to_line` has made into this.

        Raises:
            ValueError, TypeError: It is nothing of the kind.
        """
        (alive, alive_why), (ready, ready_why), samples = json.loads(line)
        checks = Check(ok=alive, why=alive_why), Check(ok=ready, why=ready_why)
        return cls(*checks, tuple(from_plain(samples)))


class Reporter:
    """Reports five times a second, from a thread of its own, whatever the event loop does.

    Args:
        pipe: To the parent, as a file descriptor.
        report: Says how the worker stands; called on the thread.
    """

    def __init__(self, pipe: int, report: Callable[[], WorkerReport]) -> None:
        self._pipe = pipe
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redrive-reports", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it still reports."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Report once more, within a second, and then no more."""
        self._stop.set()
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        failed = ended = False
        while True:
            try:
                self._write(self._report().to_line() + b"\n")
            except BrokenPipeError:
                return  # the parent has ended, which others see to
            except Exception:
                if not failed:  # not five times a second
                    log.exception("metrics.report_failed")
                failed = True
            if ended:
                return
            ended = self._stop.wait(_EVERY_S)

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._pipe, line) :]
