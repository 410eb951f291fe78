"""Worker processes of tests are forked from a process that has imported everything once.

A test process keeps one such template, from the first worker on, and ends it when it ends itself.
To get the exit codes of workers, the test process becomes a subreaper: orphans of its children
become its own.
"""

from __future__ import annotations

import atexit
import functools
import os
import select
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from redrive.cli.parent import WORKER_MODULES
from redrive.consumer.adopted import AdoptedProcess, become_subreaper
from redrive.consumer.template import Template, TemplateStaleError

__all__ = ["can_fork", "fork_program"]

_READY_WITHIN_S = 120.0
_ONE_AT_A_TIME = threading.Lock()
# Read when Python starts, or when modules are imported.
_READ_EARLY = ("PYTHON", "LANG", "LD_")


@functools.cache
def _subreaper() -> bool:
    return become_subreaper() is None


def can_fork(environ: Mapping[str, str]) -> bool:
    """Say whether a worker with this environment can be forked from ours."""

    def read_early(variables: Mapping[str, str]) -> dict[str, str]:
        return {name: text for name, text in variables.items() if name.startswith(_READ_EARLY)}

    return read_early(environ) == read_early(os.environ) and _subreaper()


def fork_program(
    program: Sequence[str], *, environ: Mapping[str, str], folder: Path, output: int
) -> AdoptedProcess:
    """Start what `python` would run with these arguments.

    Args:
        program: Such as `-m redrive worker`, or a file.
        environ: Its environment.
        folder: Where it works.
        output: The descriptor that takes what it prints.

    Raises:
        TemplateError: The process that forks has gone.
    """
    with Path(os.devnull).open("rb") as nothing, _ONE_AT_A_TIME:
        pipes = {"stdin": nothing.fileno(), "stdout": output, "stderr": output}
        command = [sys.executable, *program]
        try:
            return _template().fork(command, environ=environ, pipes=pipes, folder=str(folder))
        except TemplateStaleError:
            # Somebody works on the code while its tests run.
            _template.cache_clear()
            return _template().fork(command, environ=environ, pipes=pipes, folder=str(folder))


@functools.cache
def _template() -> Template:
    template = Template([sys.executable], WORKER_MODULES, label=("redrive", "test", "workers"))
    atexit.register(template.close)
    select.select((template,), (), (), _READY_WITHIN_S)
    template.hear()
    return template
