"""The user's part: fixes the cause of a failure, and types the command that drives its letter.

What it leads to is for the other sources to see: the topics, and the nodes' executions.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from redrive.clock import SYSTEM
from redrive.demo.environment import DemoEnvironment
from redrive.demo.observations import CauseFixed, CommandEnded, CommandTyped, Fact, Observation
from redrive.demo.plan import REFUSED_TOPIC
from redrive.demo.processes import DemoProcess

__all__ = ["User"]

_PATIENCE_S = 1.0


class User:
    """Acts when told to, and is a source of the facts that it makes.

    Args:
        stage: Where the policy lies, and where commands run.
    """

    def __init__(self, stage: DemoEnvironment) -> None:
        self._stage = stage
        self._command: DemoProcess | None = None
        self._news: list[Observation] = []

    def fix_cause(self) -> None:
        """Empty the policy, so that the reviewer refuses nothing from now on."""
        file = self._stage.refused_topics
        file.write_text("", encoding="utf-8")
        self._happened(CauseFixed(REFUSED_TOPIC, file.name))

    def drive_again(self, dlq_ids: Sequence[str]) -> DemoProcess:
        """Run `redrive dlq redrive` for these letters; once."""
        why = f"{REFUSED_TOPIC} is allowed now"
        arguments = ("dlq", "redrive", *dlq_ids, "--yes", "--why", why)
        self._happened(CommandTyped(shlex.join(("redrive", *arguments))))
        self._command = self._stage.start_command(arguments)
        return self._command

    def news(self) -> Iterator[Observation]:
        """Yield what was done since the last look."""
        if self._command is not None and self._command.exit_code is not None:
            self._happened(CommandEnded(self._command.exit_code))
            self._command = None
        while self._news:
            yield self._news.pop(0)

    def end(self) -> None:
        """End the command, if it still runs."""
        if self._command is not None:
            self._command.end(patience_s=_PATIENCE_S)

    def _happened(self, fact: Fact) -> None:
        self._news.append(Observation(SYSTEM.now().timestamp(), fact))
