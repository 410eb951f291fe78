"""A template process as its parent holds it: started, asked to fork workers, closed.

What runs in that process is `template_process.py`; when it is used, and what else is, is
`launcher.py`.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from redrive.consumer.protocol import receive_message, send_message
from redrive.errors import RedriveError

__all__ = ["Template", "TemplateError", "TemplateStaleError"]

# A fork takes some milliseconds; a template that is frozen or swapped out is not waited for.
_ANSWERS_WITHIN_S = 10.0
_KILLED_WITHIN_S = 10.0


class TemplateError(RedriveError):
    """A template has gone, or does not answer: workers have to be started in another way."""


class TemplateStaleError(TemplateError):
    """A file that a template has imported has changed since: another template is needed."""


class Template:
    """A process that imports `modules` once, and forks workers that have them.

    The process that makes it must be a subreaper (`adopted.become_subreaper`), and so becomes the
    parent of the workers; unless the template is to keep them.

    Args:
        python: The interpreter, with its flags.
        modules: What is imported; no graph is among them.
        keeps: Whether the template is the parent of its workers, which die unseen with it.
        label: What a list of processes shows of it and of its workers.
        environ: Its environment; None for that of this process.

    Raises:
        OSError: It could not be started.
    """

    def __init__(
        self,
        python: Sequence[str],
        modules: Sequence[str],
        *,
        keeps: bool = False,
        label: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._python = tuple(python)
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(_ANSWERS_WITHIN_S)
        self._is_ready = False
        self.modules: object = None
        """How many modules it has imported, with those that they import; None until it is ready."""
        with theirs:
            command = (*python, "-m", "redrive.consumer.template_process")
            how = "keep" if keeps else "give"
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    [*command, str(theirs.fileno()), how, ",".join(modules), *label],
                    env=environ,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except BaseException:
                self._connection.close()
                raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it can fork workers."""
        return self._is_ready

    def fileno(self) -> int:
        """Return the descriptor at which something can be read when it gets ready, or ends."""
        return self._connection.fileno()

    def hear(self) -> None:
        """Take in that it is ready; waits for ten seconds if it has said nothing yet.

        Raises:
            TemplateError: It has ended, or what it has imported must not be forked.
        """
        message = self._answer()
        if "unsafe" in message:
            raise TemplateError(str(message["unsafe"]))
        self.modules = message["ready"]
        self._is_ready = True

    def can_run(self, command: Sequence[str]) -> bool:
        """Say whether it runs the interpreter of this command."""
        return tuple(command[: len(self._python)]) == self._python

    def fork(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        pipes: Mapping[str, int],
        folder: str | None = None,
    ) -> int:
        """Start a process that runs a command as a new interpreter would, in a session of its own.

        Returns:
            Its process id.

        Args:
            command: Begins with `python`.
            environ: Its whole environment.
            pipes: Descriptors for it, by the variables of its environment that name them there;
                `stdin`, `stdout` and `stderr` for those.
            folder: The directory that it works in; this process's own by default.

        Raises:
            TemplateStaleError: What is imported has changed on disk.
            TemplateError: It has gone, or does not answer.
            OSError: There can be no more processes, or no more memory.
        """
        request = {
            "arguments": command[len(self._python) :],
            "environ": dict(environ),
            "folder": folder or os.getcwd(),  # noqa: PTH109 - as text
            "pipes": list(pipes),
        }
        answer = self._ask(request, *pipes.values())
        if "stale" in answer:
            raise TemplateStaleError(f"{answer['stale']} has changed since it was imported")
        if "error" in answer:
            raise OSError(str(answer["error"]))
        return int(str(answer["pid"]))

    def status(self, pid: int) -> int | None:
        """Return the exit code of a worker that this template keeps, once; None while it lives.

        Raises:
            TemplateError: It has gone, or does not answer.
        """
        code = self._ask({"status": pid})["status"]
        return None if code is None else int(str(code))

    def close(self) -> None:
        """End it. Its workers go on: they are not its children."""
        self._connection.close()
        self._process.kill()
        self._process.wait(_KILLED_WITHIN_S)

    def _ask(self, request: Mapping[str, object], *descriptors: int) -> dict[str, object]:
        try:
            send_message(self._connection, request, descriptors)
        except OSError as error:
            raise TemplateError(f"the template has gone: {error}") from error
        return self._answer()

    def _answer(self) -> dict[str, object]:
        try:
            answer, _ = receive_message(self._connection)
        except (EOFError, OSError) as error:
            code = None
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.0 if isinstance(error, TimeoutError) else 1.0)
            how = "does not answer" if code is None else f"has ended with {code}"
            raise TemplateError(f"the template {how}") from error
        return answer
