"""The template: a process that has imported what workers need, and forks them from itself.

It is run as `python -m redrive.consumer.template_process`, by `template.py`. It has no Kafka
client, no event loop and no thread, ever: what a fork does not take along. A module that makes one
while it is imported ends it, with a word of which. Graphs are not imported here: a worker imports
them itself, so that code which has changed is read anew.

A worker is forked twice. The process between ends at once, so that the worker becomes a child of
the parent (see `adopted.py`), and lives and dies without the template. A template that keeps its
workers, as that of tests does, is their parent itself, and is asked what became of them.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redrive.consumer.adopted import become_subreaper
from redrive.consumer.protocol import receive_message, send_message

__all__ = ["Stale", "UnsafeImportError", "WorkerRequest", "import_safely", "main", "stale"]

Stale = dict[str, tuple[int, int]]
"""The files of imported modules, each with its time of change in nanoseconds and its size."""

_PROC = Path("/proc/self")
_LOOK_EVERY_S = 0.5


class UnsafeImportError(Exception):
    """What a module does while it is imported is not to be forked."""


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """What is to be forked.

    Args:
        arguments: As after `python` on a command line: `-m module …`, `-c code …` or `file …`.
        environ: Its whole environment.
        folder: The directory that it works in.
        pipes: Names of variables of the environment, one for each descriptor that is sent along;
            each gets its descriptor's number. `stdin`, `stdout` and `stderr` replace those.
    """

    arguments: Sequence[str]
    environ: dict[str, str]
    folder: str
    pipes: Sequence[str]


def main(arguments: Sequence[str]) -> None:
    """Serve the parent until it closes the connection; in a worker, return what it is to run.

    Args:
        arguments: The number of the socket, `keep` or `give`, and the modules to import, with
            commas between them; the rest is there for people who look at a list of processes.
    """
    # The parent ends us by closing the connection; a signal to the whole group is for the others.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(arguments[0]))
    try:
        import_safely([name for name in arguments[2].split(",") if name])
    except UnsafeImportError as error:
        send_message(connection, {"unsafe": str(error)})
        return
    kept = _Kept() if arguments[1] == "keep" else None
    files = _files_of_modules()
    gc.collect()
    # Else the first collection of each worker would copy every page that it only looks at.
    gc.freeze()
    send_message(connection, {"ready": len(sys.modules)})
    worker = _serve(connection, files, kept)
    if worker is not None:
        connection.close()
        _become(*worker)


def import_safely(modules: Sequence[str]) -> None:
    """Import these.

    Raises:
        UnsafeImportError: One has started a thread or opened a socket or an event loop, or cannot
            be imported; the message names it.
    """
    threads, descriptors = _threads(), set(_connections())
    for name in modules:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise UnsafeImportError(
                f"the module {name!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if _threads() > threads:
            raise UnsafeImportError(f"the module {name!r} starts a thread while it is imported")
        opened = [what for number, what in _connections().items() if number not in descriptors]
        if opened:
            raise UnsafeImportError(f"the module {name!r} opens {opened[0]} while it is imported")


def stale(files: Stale) -> str | None:
    """Return a file that has changed since its module was imported; None if there is none."""
    return next((file for file, seen in files.items() if _look_at(file) != seen), None)


class _Kept:
    """The workers of a template that keeps them, and orphans of theirs."""

    def __init__(self) -> None:
        become_subreaper()
        self._pids: set[int] = set()

    def add(self, pid: int) -> None:
        self._pids.add(pid)

    def status(self, pid: int) -> int | None:
        """Return the exit code of a worker, once; None while it lives."""
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return None
        self._pids.discard(pid)
        return os.waitstatus_to_exitcode(status)

    def wait_for_message(self, connection: socket.socket) -> None:
        """Let go of orphans that have ended until there is something to be read."""
        while not select.select((connection,), (), (), _LOOK_EVERY_S)[0]:
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                if int(child) not in self._pids:
                    os.waitpid(int(child), os.WNOHANG)


def _serve(
    connection: socket.socket, files: Stale, kept: _Kept | None
) -> tuple[WorkerRequest, list[int]] | None:
    """Fork what is asked for; return that in each worker, and None at the end of the parent."""
    while True:
        if kept is not None:
            kept.wait_for_message(connection)
        try:
            message, descriptors = receive_message(connection)
        except (EOFError, OSError):
            return None
        answer = _answer(message, files, kept)
        if answer is None:
            return _request(message), descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        with suppress(OSError):  # the next message finds that the parent has gone
            send_message(connection, answer)


def _answer(
    message: dict[str, object], files: Stale, kept: _Kept | None
) -> dict[str, object] | None:
    """Do what the parent asks for, and return what it came to; None in a new worker."""
    if kept is not None and "status" in message:
        return {"status": kept.status(int(str(message["status"])))}
    changed = stale(files)
    if changed is not None:
        return {"stale": changed}
    try:
        pid = _fork_twice()
    except OSError as error:
        return {"error": str(error)}
    if pid is None:
        return None
    if kept is not None:
        kept.add(pid)
    return {"pid": pid}


def _request(message: dict[str, object]) -> WorkerRequest:
    return WorkerRequest(**message)  # type: ignore[arg-type]  # as `template.py` has sent it


def _fork_twice() -> int | None:
    """Return the process id of the new process, which is the parent's child; None in itself.

    Raises:
        OSError: There can be no more processes, or no more memory.
    """
    sample, writing = os.pipe()
    between = os.fork()
    if between:
        os.close(writing)
        with os.fdopen(sample, "rb") as answer:
            text = answer.read().decode()
        os.waitpid(between, 0)
        if not text.isdecimal():
            raise OSError(text or "the process between has died")
        return int(text)
    os.close(sample)
    try:
        pid = os.fork()
    except OSError as error:
        os.write(writing, str(error).encode())
        os._exit(1)
    if pid:
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.close(writing)
    return None


def _become(request: WorkerRequest, descriptors: list[int]) -> None:
    """Run what was asked for, in this process, as a new interpreter would."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    os.environ.clear()
    os.environ.update(request.environ)
    for name, descriptor in zip(request.pipes, descriptors, strict=True):
        standard = _STANDARD.get(name)
        if standard is None:
            os.environ[name] = str(descriptor)
        else:
            os.dup2(descriptor, standard)
            os.close(descriptor)
    os.chdir(request.folder)
    importlib.invalidate_caches()
    _run(list(request.arguments))


_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


def _run(arguments: list[str]) -> None:
    how, *rest = arguments
    if how == "-m":
        _first_on_path(str(Path.cwd()))
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        _first_on_path("")
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as asked
    else:
        _first_on_path(str(Path(how).resolve().parent))
        sys.argv = arguments
        runpy.run_path(how, run_name="__main__")


def _first_on_path(folder: str) -> None:
    # With -P there is no such entry, here and in a new interpreter.
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _files_of_modules() -> Stale:
    files = {
        file
        for module in list(sys.modules.values())
        if isinstance(file := getattr(module, "__file__", None), str)
    }
    return {file: seen for file in files if (seen := _look_at(file)) is not None}


def _look_at(file: str) -> tuple[int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _threads() -> int:
    return sum(1 for _ in (_PROC / "task").iterdir())


def _connections() -> dict[int, str]:
    """Return what is open and not to be shared, by its descriptor."""
    found: dict[int, str] = {}
    for descriptor in (_PROC / "fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # it was that of the list itself
        if target.startswith("socket:"):
            found[int(descriptor.name)] = "a socket"
        elif target.startswith("anon_inode:[event"):
            found[int(descriptor.name)] = "an event loop"
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
