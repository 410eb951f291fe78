"""Worker processes of tests are forked from a process that has imported everything once.

A test process keeps one such template, from the first worker on, and ends it when it ends itself.
"""

from __future__ import annotations

import atexit
import functools
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from redrive.cli.parent import WORKER_MODULES
from redrive.consumer.template import Template, TemplateStaleError

__all__ = ["ForkedProcess", "can_fork", "fork_program"]

_READY_WITHIN_S = 120.0
_ONE_AT_A_TIME = threading.Lock()
"""Tests may use workers from several threads; each question to a template has its answer."""
# Read when Python starts, or when modules are imported.
_READ_EARLY = ("PYTHON", "LANG", "LD_")


class ForkedProcess:
    """A process that a template has forked and keeps, as `subprocess.Popen` shows one of its own.

    Args:
        template: Its parent.
        pid: Its process id.
    """

    def __init__(self, template: Template, pid: int) -> None:
        self._template = template
        self.pid = pid
        """Its process id."""
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that killed it; None while it lives."""
        with _ONE_AT_A_TIME:
            if self._code is None:
                self._code = self._template.status(self.pid)
            return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended.

        Args:
            timeout: How long to wait, in seconds; None for as long as it takes.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        code = self.poll()
        if code is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                select.select((descriptor,), (), (), timeout)
            finally:
                os.close(descriptor)
            code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        # Until its end was asked for, its number belongs to no other process.
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with -9."""
        self.send_signal(signal.SIGKILL)


def can_fork(environ: Mapping[str, str]) -> bool:
    """Say whether a worker with this environment can be forked from ours."""

    def read_early(variables: Mapping[str, str]) -> dict[str, str]:
        return {name: text for name, text in variables.items() if name.startswith(_READ_EARLY)}

    return sys.platform == "linux" and read_early(environ) == read_early(os.environ)


def fork_program(
    program: Sequence[str], *, environ: Mapping[str, str], folder: Path, output: int
) -> ForkedProcess:
    """Start what `python` would run with these arguments.

    Args:
        program: Such as `-m redrive worker`, or a file.
        environ: Its environment.
        folder: Where it works.
        output: The descriptor that takes what it prints.

    Raises:
        TemplateError: The process that forks has gone.
    """
    command, place = [sys.executable, *program], str(folder)
    with Path(os.devnull).open("rb") as nothing, _ONE_AT_A_TIME:
        pipes = {"stdin": nothing.fileno(), "stdout": output, "stderr": output}
        template = _template()
        try:
            pid = template.fork(command, environ=environ, pipes=pipes, folder=place)
        except TemplateStaleError:
            # The code was edited during the run; processes forked earlier stay with their template.
            _template.cache_clear()
            template = _template()
            pid = template.fork(command, environ=environ, pipes=pipes, folder=place)
    return ForkedProcess(template, pid)


@functools.cache
def _template() -> Template:
    label = ("redrive", "test", "workers")
    template = Template([sys.executable], WORKER_MODULES, keeps=True, label=label)
    atexit.register(template.close)
    select.select((template,), (), (), _READY_WITHIN_S)
    template.hear()
    return template
