"""One attempt of a run: execute it within its deadline, judge how it ended, choose what follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import structlog

from redrive.aside import TEXT_LIMIT_S, Aside, Late
from redrive.clock import Clock
from redrive.consumer.event_run import Run
from redrive.consumer.observing import AttemptEnd
from redrive.consumer.outcome import Outcome
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.consumer.policy import Policy
from redrive.consumer.resting import expired_in
from redrive.dead_letter.record import LetterAttempt
from redrive.dead_letter.redacted_text import SILENT, Redactor, masked, message_of, qualified
from redrive.errors import DeadlineError, ProcessDiedError, StaleAttemptError, StuckNodeError
from redrive.events import RawHeaders, WorkflowEvent
from redrive.graphs.attempt_ends import Drained, Ended, Failed, Redriven, RunEnd
from redrive.graphs.lease import Lease
from redrive.graphs.lingering_work import LingeringWork
from redrive.graphs.node_threads import WorkInThreads
from redrive.graphs.timeouts import NO_LIMITS, Limit, TimeLimits
from redrive.retry import (
    Classifier,
    GiveUp,
    Retry,
    RetryConfig,
    decide,
    dependency_of,
    reason_of,
)
from redrive.retry.chain import links
from redrive.retry.classifier import UNANSWERED
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.telemetry.detail import is_detailed

__all__ = ["Again", "Control", "Left", "NextStep", "Processor", "Runner"]

log = structlog.get_logger("redrive.consumer")


class Control(Protocol):
    """Asks one run to stop at its next checkpoint."""

    def request_drain(self) -> None:
        """Ask; returns at once."""
        ...


class Processor(Protocol):
    """What executes a graph for an event; `redrive.graphs.WorkflowProcessor` does."""

    async def run(  # noqa: PLR0913 - one attempt's facts, each by its name
        self,
        event: WorkflowEvent,
        *,
        thread_id: str,
        lease: Lease,
        control: Any = None,  # noqa: ANN401 - what its own `new_control` made
        generation: int = 0,
        redrive_count: int = 0,
        limits: TimeLimits = NO_LIMITS,
        policy: RetryConfig | None = None,
        failed_before: int = 0,
        redriven: Redriven | None = None,
        moved: Callable[[], None] | None = None,
        number: int | None = None,
        headers: RawHeaders = (),
        said: Callable[[], str] | None = None,
    ) -> RunEnd:
        """Execute one attempt; whatever user code raises comes back as `Failed`."""
        ...

    def new_control(self) -> Control | None:
        """Return what drains one run, or None where a drained run would be lost."""
        ...

    async def give_up(
        self,
        event: WorkflowEvent,
        error: Exception,
        *,
        thread_id: str,
        lease: Lease,
        generation: int = 0,
        redrive_count: int = 0,
        said: Callable[[], str] | None = None,
    ) -> Failed:
        """Say where a run stands that is given up for `error`, without another attempt."""
        ...


@dataclass(frozen=True, slots=True)
class Again:
    """Run it again, not before `after_s` seconds have passed."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Left:
    """This worker leaves the run where it is: drained, or its partition has gone."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """What follows an attempt.

    Args:
        next: Its outcome, another attempt, or nothing here.
        asked_s: For so many seconds a service wants to be left alone, by all its callers.
        dependency: The service that the failure names, if it names one.
        lingering_works: What goes on of an attempt that was ended, to be watched.
        attempt: The attempt, for those who watch; None if none ended.
    """

    next: Outcome | Again | Left
    asked_s: float | None = None
    dependency: str | None = None
    lingering_works: tuple[LingeringWork, ...] = ()
    attempt: AttemptEnd | None = None


@dataclass(frozen=True, slots=True)
class _Looked:
    """What the worker learns of an exception by asking it; the type can always be told.

    `goes_on` is set when it did not answer in time: then it is asked for nothing more.
    """

    failure: Failure
    type: str
    message: str
    reason: Reason | None = None
    dependency: str | None = None
    goes_on: LingeringWork | None = None


class Runner:
    """Runs attempts.

    Args:
        processor: Executes graphs.
        outcomes: Builds the records of an ending.
        policy: The policy of a workflow.
        grace_s: How long, in seconds, what goes on after its end may take before a retry begins.
        classifier: Judges what graphs raise.
        text_limit_s: How long, in seconds, an exception may take to tell what it has to say.
        last_exit: How this worker's process ended the last time, where that is known.
        worker: This worker's name, for the history of attempts.
        clock: For times and dice.
    """

    def __init__(  # noqa: PLR0913 - the parts of a worker that it needs
        self,
        processor: Processor,
        outcomes: OutcomeBuilder,
        *,
        policy: Callable[[str], Policy],
        grace_s: float,
        classifier: Classifier,
        worker: str,
        clock: Clock,
        last_exit: str | None = None,
        text_limit_s: float = TEXT_LIMIT_S,
    ) -> None:
        self._processor = processor
        self._outcomes = outcomes
        self._policy = policy
        self._grace_s = grace_s
        self._classifier = classifier
        self._last_exit = last_exit
        self._redactor = outcomes.redactor
        self._worker = worker
        self._clock = clock
        self._aside = Aside(limit_s=text_limit_s)

    def new_control(self) -> Control | None:
        """Return what asks one run to stop at its next checkpoint, or None."""
        return self._processor.new_control()

    async def attempt(self, run: Run, *, lease: Lease, control: Control | None) -> NextStep:
        """Execute the next attempt of `run`, and say what follows. Cancelling it passes."""
        policy = self._policy(run.event.workflow_id)
        now = self._clock.monotonic()
        remaining_s = run.remaining_s(now)
        if remaining_s is not None and remaining_s <= 0 and run.rest is not None:
            error = expired_in(run.rest, self._clock)
            decision = GiveUp(Reason.EXPIRED_RESTING, "its deadline passed in a rest")
            return await self._end_untried(run, error, lease, decision)
        if remaining_s is not None and remaining_s <= 0 and not (run.attempts or run.crashes):
            log.warning("run.expired", **_fields(run))
            return NextStep(self._outcomes.expired(run))
        began = self._clock.now()
        run.started_at = run.started_at or began
        run.begin(now, limit_s=policy.run_s)
        if is_detailed():
            log.debug("run.started", **_fields(run))
        end = await self._execute(run, lease, control, policy)
        run.moved = self._clock.monotonic()
        took_s = run.moved - now
        _note_unverified(run, end)
        match end:
            case Ended():
                run.resumed, run.finished = run.resumed or end.resumed, True
                if is_detailed():
                    log.debug("run.ended", **_fields(run), reason=end.reason)
                attempt = _attempt_end(run, run.attempts + 1, took_s=took_s)
                return NextStep(self._outcomes.ended(run, end), attempt=attempt)
            case Drained():
                log.info("run.drained", **_fields(run))
                return NextStep(Left())
            case Failed() if _is_stale(end.error):
                return NextStep(Left())
            case Failed():
                run.resumed = run.resumed or end.resumed
                step = await self._unless_stuck(
                    run, end, await self._judge(run, end, began, policy)
                )
                attempt = _attempt_end(run, run.attempts, took_s=took_s, step=step)
                return replace(step, attempt=attempt)

    async def condemn(self, run: Run, *, lease: Lease) -> NextStep:
        """Give up a run whose process died at it once too often. Cancelling it passes."""
        error = ProcessDiedError(run.crashes, last=self._last_exit)
        why = self._classifier.classify(error).why
        return await self._end_untried(run, error, lease, GiveUp(Reason.CRASHED, why))

    async def _end_untried(
        self, run: Run, error: Exception, lease: Lease, decision: GiveUp
    ) -> NextStep:
        """Give up a run without another attempt: with a letter, so that it can be driven."""
        try:
            end = await self._processor.give_up(
                run.event,
                error,
                thread_id=run.thread_id,
                lease=lease,
                generation=run.headers.generation,
                redrive_count=run.headers.count,
                said=run.said,
            )
        finally:
            lease.end()
        return await self._give_up(
            run, end, await self._look(error, run.event.workflow_id), decision
        )

    async def _execute(
        self, run: Run, lease: Lease, control: Control | None, policy: Policy
    ) -> RunEnd:
        limits = TimeLimits(
            deadline_s=run.remaining_s(self._clock.monotonic()),
            attempt_s=policy.attempt_s,
            idle_s=policy.idle_s,
        )

        def moved() -> None:
            run.moved = self._clock.monotonic()

        try:
            return await self._processor.run(
                run.event,
                thread_id=run.thread_id,
                lease=lease,
                control=control,
                generation=run.headers.generation,
                redrive_count=run.headers.count,
                limits=limits,
                policy=policy.retry,
                failed_before=run.tries,
                redriven=_redriven(run),
                moved=moved,
                number=run.attempts + 1,
                headers=run.polled.record.headers,
                said=run.said,
            )
        finally:
            lease.end()

    async def _unless_stuck(self, run: Run, end: Failed, step: NextStep) -> NextStep:
        """Let no retry begin beside what goes on of the attempt before it."""
        if end.lingering is None:
            return step
        if not isinstance(step.next, Again):
            return replace(step, lingering_works=(*step.lingering_works, end.lingering))
        remaining_s = run.remaining_s(self._clock.monotonic())
        patience_s = self._grace_s if remaining_s is None else min(self._grace_s, remaining_s)
        if await end.lingering.ended(patience_s) or not isinstance(end.error, Limit):
            return step
        error = StuckNodeError(
            f"node {end.node or '?'} went on for {patience_s:.3g} s after its attempt was ended: "
            f"{end.error}"
        )
        error.__cause__ = end.error
        decision = GiveUp(Reason.STUCK, "a retry would run beside it")
        given_up = await self._give_up(
            run, replace(end, error=error), await self._look(error, run.event.workflow_id), decision
        )
        return replace(given_up, lingering_works=(*given_up.lingering_works, end.lingering))

    async def _judge(self, run: Run, end: Failed, began: datetime, policy: Policy) -> NextStep:
        end = _with_own_limit(run, end)
        looked = await self._look(end.error, run.event.workflow_id)
        failure = looked.failure
        run.node_retries += end.node_retries
        decision = decide(
            failure,
            failed_attempts=run.tries + 1,
            policy=policy.retry,
            roll=self._clock.random(),
            remaining_s=self._remaining_s(run, policy.retry),
            reason=looked.reason,
        )
        run.failed.append(self._attempt(run, looked, decision, began))
        match decision:
            case Retry(after_s):
                fields = _judged(run, end, failure)
                log.warning("run.retry_scheduled", **fields, after_s=round(after_s, 3))
                step = NextStep(Again(after_s), lingering_works=_going_on(looked))
            case GiveUp():
                step = await self._give_up(run, end, looked, decision)
        # The service speaks of all its callers, not of this run alone.
        asked_s = failure.retry_after if failure.kind is Kind.RATE_LIMITED else None
        return replace(step, asked_s=asked_s, dependency=looked.dependency)

    async def _look(self, error: BaseException, workflow_id: str) -> _Looked:
        """Ask the exception all that is to be known of it: off the loop, for a limited time."""
        found = await self._aside.call(
            lambda: _looked_at(error, self._classifier, self._redactor), workflow_id=workflow_id
        )
        if not isinstance(found, Late):
            return found
        name = qualified(error)
        log.error("run.failure_silent", type=name)
        return _Looked(UNANSWERED, name, SILENT, goes_on=_leftover_of(found))

    def _remaining_s(self, run: Run, policy: RetryConfig) -> float | None:
        """Return the seconds in which another attempt may begin, or None."""
        now = self._clock.monotonic()
        left = [run.remaining_s(now)]
        if policy.total_limit_s is not None and run.began is not None:
            left.append(run.began + policy.total_limit_s - now)
        return min((seconds for seconds in left if seconds is not None), default=None)

    async def _give_up(self, run: Run, end: Failed, looked: _Looked, decision: GiveUp) -> NextStep:
        fields = _judged(run, end, looked.failure)
        reason = decision.reason
        why = self._redactor.mask(decision.why)
        given_up = GivenUp(
            end.error,
            looked.failure,
            reason,
            node=end.node,
            position=end.position,
            graph=end.graph,
            silent=looked.goes_on is not None,
        )
        lingering_works = _going_on(looked)
        outcome = await self._aside.call(
            lambda: self._outcomes.given_up(run, given_up), workflow_id=run.event.workflow_id
        )
        if isinstance(outcome, Late):
            lingering_works = (*lingering_works, _leftover_of(outcome))
            log.error("run.failure_silent", type=looked.type)
            outcome = self._outcomes.given_up(run, replace(given_up, silent=True))
        told = outcome.account.error if outcome.account is not None else None
        if told is not None:
            fields |= {"dlq_id": told.dlq_id, "fingerprint": told.fingerprint}
        log.warning("run.dead_lettered", **fields, reason=reason.value, why=why)
        return NextStep(outcome, lingering_works=lingering_works)

    def _attempt(
        self, run: Run, looked: _Looked, decision: Retry | GiveUp, began: datetime
    ) -> LetterAttempt:
        return LetterAttempt(
            number=run.attempts + 1,
            started_at=began,
            ended_at=self._clock.now(),
            kind=looked.failure.kind,
            type=looked.type,
            message=looked.message,
            delay_s=decision.after_s if isinstance(decision, Retry) else None,
            worker=self._worker,
        )


def _looked_at(error: BaseException, classifier: Classifier, redactor: Redactor) -> _Looked:
    return _Looked(
        classifier.classify(error),
        qualified(error),
        masked(message_of(error), redactor),
        reason_of(error),
        dependency_of(error),
    )


def _going_on(looked: _Looked) -> tuple[LingeringWork, ...]:
    return () if looked.goes_on is None else (looked.goes_on,)


def _leftover_of(late: Late[Any]) -> LingeringWork:
    """Return what goes on, to be watched as a node that does not let go: it has the process."""
    work = WorkInThreads()
    work.add(late.future)
    return LingeringWork(None, work)


def _attempt_end(
    run: Run, number: int, *, took_s: float, step: NextStep | None = None
) -> AttemptEnd:
    return AttemptEnd(
        run.event.workflow_id,
        run.event.event_id,
        number,
        kind=None if step is None else run.failed[-1].kind,
        took_s=took_s,
        retry_after_s=step.next.after_s if step and isinstance(step.next, Again) else None,
    )


def _with_own_limit(run: Run, end: Failed) -> Failed:
    if run.limit_s is None or not isinstance(end.error, DeadlineError):
        return end
    text = f"the run took longer than its {run.limit_s:g} s (timeouts.run, graphs.<id>.timeout)"
    return replace(end, error=DeadlineError(text))


def _redriven(run: Run) -> Redriven | None:
    """Return what is known of the letter that this run resumes, if it does."""
    if run.headers.of is None or run.headers.mode == "restart":
        return None
    return Redriven(stopped_at=run.headers.checkpoint)


def _note_unverified(run: Run, end: RunEnd) -> None:
    if isinstance(end, Drained) or end.unverified is None:
        return
    run.verified = run.verified is not False and not end.unverified
    if end.unverified:
        log.error("run.resume_not_verified", **_fields(run), what=list(end.unverified))


def _is_stale(error: BaseException) -> bool:
    # By its class: the object itself may answer anything when it is asked what it is.
    return any(issubclass(type(link.exc), StaleAttemptError) for link in links(error))


def _judged(run: Run, end: Failed, failure: Failure) -> dict[str, object]:
    # The attempt that has ended, not the next one.
    told = {"attempt": max(run.attempts, 1), "node": end.node, "kind": failure.kind.value}
    return _fields(run) | told | {"rule": failure.rule}


def _fields(run: Run) -> dict[str, object]:
    tp = run.polled.tp
    return {
        "event_id": run.event.event_id,
        "workflow_id": run.event.workflow_id,
        "thread_id": run.thread_id,
        "attempt": run.attempts + 1,
        "topic": tp.topic,
        "partition": tp.partition,
        "offset": run.polled.offset,
        "epoch": run.polled.epoch,
    }
