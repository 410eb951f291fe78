"""What a task raises when its graph did not succeed, with the facts as attributes."""

from __future__ import annotations

from redrive.airflow.compat import AirflowException, AirflowFailException
from redrive.airflow.run_answers import FailedRun
from redrive.errors import RedriveError

__all__ = ["FinalLangGraphRunError", "LangGraphRunError", "error_of"]


class LangGraphRunError(RedriveError, AirflowException):
    """The run did not succeed; one more try of the task may help, when the task has retries.

    Args:
        message: The whole story, for the task's log.
        run: The facts; each is an attribute as well: `kind` and `reason` (see
            `redrive.retry.kinds`), `node`, `attempts`, `dlq_id` (the dead letter, to look at and to
            drive again), `event_id`. None is what is not known.
    """

    def __init__(self, message: str, *, run: FailedRun | None = None) -> None:
        super().__init__(message)
        self.kind = run.kind if run else None
        self.reason = run.reason if run else None
        self.node = run.node if run else None
        self.attempts = run.attempts if run else None
        self.dlq_id = run.dlq_id if run else None
        self.event_id = run.event_id if run else None


class FinalLangGraphRunError(LangGraphRunError, AirflowFailException):
    """The run did not succeed and would not: the task fails without further tries."""


def error_of(run: FailedRun) -> LangGraphRunError:
    """Return what the task raises for a run that failed."""
    cls = FinalLangGraphRunError if run.final else LangGraphRunError
    return cls(run.text, run=run)
