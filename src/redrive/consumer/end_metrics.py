"""Counts what a worker's observers are told; belongs to the event loop."""

from __future__ import annotations

from collections.abc import Sequence

from redrive.consumer.observing import AttemptEnd
from redrive.consumer.outcome import Account, Ending
from redrive.events import ErrorInfo
from redrive.telemetry.metrics import Metrics
from redrive.telemetry.recent_groups import Recent

__all__ = ["EndMetrics"]

_TOLD_APART = 5
_FEW = 10
# So many causes are told apart of each workflow; of more, those seen last.
MOST_CAUSES = 500
_MOST_WORKFLOWS = 100


class EndMetrics:
    """An observer that counts attempts and endings.

    Args:
        metrics: Where they are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._causes: Recent[str] = Recent(most_groups=_MOST_WORKFLOWS, most_each=MOST_CAUSES)

    def attempt_ended(self, attempt: AttemptEnd) -> None:
        """Count an attempt."""
        metrics = self._metrics
        workflow = metrics.workflows.of(attempt.workflow_id)
        metrics.attempts.add(workflow, attempt.kind or "none", _number(attempt.number))
        metrics.attempt_time.observe(attempt.took_s, workflow)

    def settled(self, accounts: Sequence[Account]) -> None:
        """Count endings."""
        metrics = self._metrics
        for account in accounts:
            workflow = metrics.workflows.of(account.workflow_id)
            ending = account.ending
            metrics.runs.add(workflow, ending)
            if account.redrive_count:
                metrics.redriven.add(workflow, ending)
            elif account.age_s is not None:
                metrics.event_age.observe(account.age_s, workflow)
            if ending is Ending.DEAD_LETTERED and account.error is not None:
                error = account.error
                metrics.letters.add(workflow, error.kind, error.reason)
                if self._is_new(error, workflow):
                    metrics.new_causes.add(workflow)

    def _is_new(self, error: ErrorInfo, workflow: str) -> bool:
        cause = error.fingerprint or f"{error.kind}/{error.type}/{error.node or ''}/{workflow}"
        is_new = self._causes.get(workflow, cause) is None
        self._causes.see(workflow, cause, cause)
        return is_new


def _number(number: int) -> str:
    if number <= _TOLD_APART:
        return str(number)
    return "6-10" if number <= _FEW else "more"
