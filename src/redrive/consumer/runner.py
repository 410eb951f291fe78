"""One attempt of a run: execute it within its deadline, judge how it ended, choose what follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog

from redrive.clock import Clock
from redrive.consumer.answers import Answers, GivenUp
from redrive.consumer.outcome import Outcome
from redrive.consumer.run import Run
from redrive.dead_letter.record import Attempt, letter_error
from redrive.errors import StaleAttemptError
from redrive.events import WorkflowEvent
from redrive.graphs.lease import Lease
from redrive.graphs.runs import Drained, Ended, Failed, RunEnd
from redrive.retry import GiveUp, Retry, RetryConfig, classify, decide, reason_of
from redrive.retry.kinds import Failure

__all__ = ["Again", "Control", "Left", "Processor", "Runner", "Step"]

log = structlog.get_logger("redrive.consumer")


class Control(Protocol):
    """Asks one run to stop at its next checkpoint."""

    def request_drain(self) -> None:
        """Ask; returns at once."""
        ...


class Processor(Protocol):
    """What executes a graph for an event; `redrive.graphs.WorkflowProcessor` does."""

    async def run(  # noqa: PLR0913 - the facts of one attempt
        self,
        event: WorkflowEvent,
        *,
        thread_id: str,
        lease: Lease,
        control: Any = None,  # noqa: ANN401 - what its own `new_control` made
        generation: int = 0,
        redrive_count: int = 0,
        timeout_s: float | None = None,
        policy: RetryConfig | None = None,
        failed_before: int = 0,
    ) -> RunEnd:
        """Execute one attempt; whatever user code raises comes back as `Failed`."""
        ...

    def new_control(self) -> Control | None:
        """Return what drains one run, or None where a drained run would be lost."""
        ...


@dataclass(frozen=True, slots=True)
class Again:
    """Run it again, not before `after_s` seconds have passed."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Left:
    """This worker leaves the run where it is: drained, or its partition has gone."""


Step = Outcome | Again | Left


class Runner:
    """Runs attempts.

    Args:
        processor: Executes graphs.
        answers: Builds the records of an ending.
        policy: The retry policy of a workflow.
        worker: This worker's name, for the history of attempts.
        clock: For times and dice.
    """

    def __init__(
        self,
        processor: Processor,
        answers: Answers,
        *,
        policy: Callable[[str], RetryConfig],
        worker: str,
        clock: Clock,
    ) -> None:
        self._processor = processor
        self._answers = answers
        self._policy = policy
        self._worker = worker
        self._clock = clock

    async def attempt(self, run: Run, *, lease: Lease, control: Control | None) -> Step:
        """Execute the next attempt of `run`, and say what follows. Cancelling it passes."""
        remaining_s = run.remaining_s(self._clock.monotonic())
        if remaining_s is not None and remaining_s <= 0 and not run.failed:
            log.warning("run.expired", **_fields(run))
            return self._answers.expired(run)
        began = self._clock.now()
        run.started_at = run.started_at or began
        end = await self._execute(run, lease, control, remaining_s)
        match end:
            case Ended():
                run.resumed, run.finished = run.resumed or end.resumed, True
                log.debug("run.ended", **_fields(run), reason=end.reason)
                return self._answers.ended(run, end)
            case Drained():
                log.info("run.drained", **_fields(run))
                return Left()
            case Failed() if _is_stale(end.error):
                return Left()
            case Failed():
                run.resumed = run.resumed or end.resumed
                return self._judge(run, end, began)

    async def _execute(
        self, run: Run, lease: Lease, control: Control | None, remaining_s: float | None
    ) -> RunEnd:
        try:
            return await self._processor.run(
                run.event,
                thread_id=run.thread_id,
                lease=lease,
                control=control,
                generation=run.headers.generation,
                redrive_count=run.headers.count,
                timeout_s=None if remaining_s is None else max(remaining_s, 0.0),
                policy=self._policy(run.event.workflow_id),
                failed_before=run.tries,
            )
        finally:
            lease.end()

    def _judge(self, run: Run, end: Failed, began: datetime) -> Step:
        failure, fields = classify(end.error), _fields(run)
        run.node_retries += end.node_retries
        decision = decide(
            failure,
            failed_attempts=run.tries + 1,
            policy=self._policy(run.event.workflow_id),
            roll=self._clock.random(),
            remaining_s=run.remaining_s(self._clock.monotonic()),
            reason=reason_of(end.error),
        )
        run.failed.append(self._attempt(run, end, failure, decision, began))
        fields |= {"node": end.node, "kind": failure.kind.value, "rule": failure.rule}
        match decision:
            case Retry(after_s):
                log.warning("run.retry_scheduled", **fields, after_s=round(after_s, 3))
                return Again(after_s)
            case GiveUp(reason, why):
                given_up = GivenUp(
                    end.error,
                    failure,
                    reason,
                    node=end.node,
                    position=end.position,
                    graph=end.graph,
                )
                log.warning("run.dead_lettered", **fields, reason=reason.value, why=why)
                return self._answers.given_up(run, given_up)

    def _attempt(
        self, run: Run, end: Failed, failure: Failure, decision: Retry | GiveUp, began: datetime
    ) -> Attempt:
        told = letter_error(end.error)
        return Attempt(
            number=run.attempts + 1,
            started_at=began,
            ended_at=self._clock.now(),
            kind=failure.kind,
            type=told.type,
            message=told.message,
            delay_s=decision.after_s if isinstance(decision, Retry) else None,
            worker=self._worker,
        )


def _is_stale(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, StaleAttemptError):
        seen = seen.__cause__ or seen.__context__
    return seen is not None


def _fields(run: Run) -> dict[str, object]:
    place = run.delivery.place
    return {
        "event_id": run.event.event_id,
        "workflow_id": run.event.workflow_id,
        "thread_id": run.thread_id,
        "attempt": run.attempts + 1,
        "topic": place.topic,
        "partition": place.partition,
        "offset": run.delivery.offset,
    }
