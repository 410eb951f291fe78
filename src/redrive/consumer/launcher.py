"""How a parent starts its workers: forked from a template, or each in an interpreter of its own.

A template saves a new worker the seconds of its imports, and lets workers share memory. Where it
cannot be had, the log says why, once, and a worker is started as any program is.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from redrive.clock import SYSTEM, Clock
from redrive.consumer.adopted import AdoptedProcess
from redrive.consumer.template import Template, TemplateError, TemplateStaleError

__all__ = ["Launcher", "MakeTemplate", "NotReadyError", "Process", "start_interpreter"]

log = structlog.get_logger("redrive.supervisor")

# Imports from a cold disk, on a machine that has other things to do.
_READY_WITHIN_S = 120.0
# One that dies so soon after another is no accident.
_LONG_LIFE_S = 30.0

MakeTemplate = Callable[[], Template]


class NotReadyError(Exception):
    """A worker has to wait for a template that is on its way."""


class Process(Protocol):
    """A child process, however it was started."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that killed it; None while it lives."""
        ...

    def send_signal(self, sig: int, /) -> None:
        """Send a signal, unless it has ended."""
        ...

    def kill(self) -> None:
        """Kill it with -9."""
        ...


def start_interpreter(
    command: Sequence[str], *, environ: Mapping[str, str], pipes: Mapping[str, int]
) -> Process:
    """Start a command in a session of its own, with descriptors that `environ` will name.

    Raises:
        OSError: It could not be started.
    """
    return subprocess.Popen(  # noqa: S603 - our own command
        command,
        env={**environ, **{name: str(end) for name, end in pipes.items()}},
        pass_fds=tuple(pipes.values()),
        start_new_session=True,
    )


class Launcher:
    """Starts workers, and keeps a template for it; belongs to the parent's main thread.

    Args:
        make_template: Starts a template; None when there is to be none.
        clock: For how long one takes to get ready, and lives.
    """

    def __init__(self, make_template: MakeTemplate | None = None, *, clock: Clock = SYSTEM) -> None:
        self._make_template = make_template
        self._clock = clock
        self._template: Template | None = None
        self._next: Template | None = None
        self._next_due_s = 0.0
        self._began_s = 0.0
        self._ready_at_s = 0.0
        self._deaths = 0
        if make_template is not None:
            self._begin()

    @property
    def is_ready(self) -> bool:
        """Whether a worker can be started now; else a template is on its way."""
        return self._template is not None or self._next is None

    @property
    def pids(self) -> list[int]:
        """The processes of templates."""
        return [template.pid for template in (self._template, self._next) if template is not None]

    @property
    def pipes(self) -> list[int]:
        """Where something can be read when `look` has something to do."""
        return [t.fileno() for t in (self._template, self._next) if t is not None]

    @property
    def due_s(self) -> float | None:
        """When `look` has something to do, by the clock, whatever can be read."""
        return None if self._next is None else self._next_due_s

    def launch(
        self, command: Sequence[str], *, environ: Mapping[str, str], pipes: Mapping[str, int]
    ) -> Process:
        """Start a worker.

        Args:
            command: What to run, in this directory and with these standard streams.
            environ: Its environment, to which the names of the pipes are added.
            pipes: Descriptors that it gets, by the variables that name them.

        Raises:
            NotReadyError: It has to wait for another template, see `is_ready`.
            OSError: There can be no more processes, or no more memory.
        """
        template = self._template
        if template is None or not template.can_run(command):
            return start_interpreter(command, environ=environ, pipes=pipes)
        try:
            return AdoptedProcess(template.fork(command, environ=environ, pipes=pipes))
        except TemplateStaleError as error:
            self._drop()
            self.renew(str(error))
        except TemplateError as error:
            self._lost(error)
        if self._next is not None:
            raise NotReadyError
        return self.launch(command, environ=environ, pipes=pipes)

    def renew(self, why: str) -> None:
        """Make another template, which imports everything anew; workers that run are let alone.

        Args:
            why: For the log.
        """
        if self._make_template is None:
            self._unused("worker.template is off")
            return
        log.info("supervisor.template_renewing", why=why)
        self._deaths = 0
        if self._next is not None:
            self._next.close()
        self._begin()

    def look(self, readable: Sequence[int]) -> None:
        """Take in what has become of templates.

        Args:
            readable: Those of `pipes` at which something can be read.
        """
        if self._template is not None and self._template.fileno() in readable:
            # It says nothing unless it is asked: this is its end.
            self._lost(TemplateError("the template has ended"))
        if self._next is None:
            return
        if self._next.fileno() in readable:
            self._hear(self._next)
        elif self._clock.monotonic() >= self._next_due_s:
            self._give_up(f"it was not ready within {_READY_WITHIN_S:g} s")

    def close(self) -> None:
        """End all templates."""
        self._drop()
        if self._next is not None:
            self._next.close()
            self._next = None

    def _begin(self) -> None:
        assert self._make_template is not None  # noqa: S101 - asked by all callers
        self._began_s = self._clock.monotonic()
        self._next_due_s = self._began_s + _READY_WITHIN_S
        try:
            self._next = self._make_template()
        except OSError as error:
            self._next = None
            self._unused(str(error))

    def _hear(self, template: Template) -> None:
        try:
            template.hear()
        except TemplateError as error:
            self._give_up(str(error))
            return
        self._drop()
        self._template, self._next = template, None
        self._ready_at_s = self._clock.monotonic()
        took_s = self._ready_at_s - self._began_s
        log.info(
            "supervisor.template_ready",
            pid=template.pid,
            modules=template.modules,
            took_s=round(took_s, 2),
        )

    def _lost(self, error: TemplateError) -> None:
        """Make another one for one that died; not for ever, if that one dies as soon."""
        self._drop()
        lived_s = self._clock.monotonic() - self._ready_at_s
        self._deaths = 1 if lived_s > _LONG_LIFE_S else self._deaths + 1
        if self._next is not None:
            return
        if self._deaths > 1:
            self._unused(f"{error}, twice in a row")
            return
        log.info("supervisor.template_renewing", why=str(error))
        self._begin()

    def _give_up(self, why: str) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None
        self._unused(why)

    def _unused(self, why: str) -> None:
        is_kept = self._template is not None
        log.warning("supervisor.template_unused", why=why, older_one_is_used=is_kept)

    def _drop(self) -> None:
        if self._template is not None:
            self._template.close()
            self._template = None
