"""`retry_policy`: a node is tried again in place by our judgement, within the retries of its run.

LangGraph counts and waits for each node by itself. What is added here: the kinds of failures, one
count over nodes and worker, the deadline, and no retry before a service wants it.
"""

from __future__ import annotations

import re
import threading
from contextvars import ContextVar
from dataclasses import dataclass

from langgraph.errors import GraphBubbleUp, NodeCancelledError
from langgraph.types import RetryPolicy

from redrive.aside import Late, call_and_wait
from redrive.errors import (
    AttemptTimeoutError,
    DeadlineError,
    IdleTimeoutError,
    ProcessDiedError,
    StaleAttemptError,
    StuckNodeError,
)
from redrive.graphs.current import CURRENT, Current
from redrive.retry.backoff import Fixed
from redrive.retry.chain import all_behind
from redrive.retry.classifier import Classifier
from redrive.retry.decision import Retry, decide
from redrive.retry.kinds import Failure
from redrive.retry.retry_config import RetryConfig
from redrive.retry.rules.rule_verdict import notes_of

__all__ = ["InPlace", "retry_policy"]

# What ends the attempt, or stops it, or is no failure: not for a node to try again.
_NOT_HERE = (
    AttemptTimeoutError,
    DeadlineError,
    GraphBubbleUp,
    IdleTimeoutError,
    NodeCancelledError,
    ProcessDiedError,
    StaleAttemptError,
    StuckNodeError,
)
_LONGEST_TOLD_S = 1.0
# LangGraph's jitter: a random part of a second on top of each wait.
_JITTER_S = 1.0
_TASK_NOTE = re.compile(r"During task with name '.+' and id '([^']*)'")
# Of parallel nodes, and of sync nodes in their threads: all count in the same `Current`.
_COUNTING = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Tried:
    current: Current | None
    task: str
    failures: int


# LangGraph loops over the attempts of one node in one context; it does not tell which one failed.
_LAST: ContextVar[_Tried | None] = ContextVar("redrive_node_tried", default=None)


def retry_policy(
    max_retries: int = 2,
    initial_delay: float = 0.5,
    max_delay: float = 8.0,
    exponential_base: float = 2.0,
    jitter: bool = True,  # noqa: FBT001, FBT002 - as RetryConfig
    *,
    classifier: Classifier | None = None,
) -> RetryPolicy:
    """Return the `retry_policy` of a node: short waits in place, by the judgement of the worker.

    Failures that cannot pass are not tried again, an unknown one once. In a worker each retry in
    place is one of the run's retries: node and worker together never make more than its policy
    allows. What asks for a longer wait than the next one here, or than a second, is raised: the
    worker holds the run for that long and goes on at this node. Nothing is tried again that would
    begin after the deadline.

    Args:
        max_retries: Retries in place after the node's first attempt.
        initial_delay: Seconds before the first retry.
        max_delay: No wait is longer, apart from the jitter.
        exponential_base: The wait is multiplied by this for each further retry.
        jitter: LangGraph adds up to a second to each wait.
        classifier: Judges failures by rules of your own first. It judges in place only.

    Raises:
        ValueError: A value cannot work; the message names it.
    """
    config = RetryConfig(max_retries, initial_delay, max_delay, exponential_base, jitter=False)
    return RetryPolicy(
        initial_interval=initial_delay,
        backoff_factor=exponential_base,
        max_interval=max_delay,
        # LangGraph asks `retry_on` first, and counts afterwards: this cuts nothing that it allows.
        max_attempts=max_retries + 1,
        jitter=jitter,
        retry_on=InPlace(config, _JITTER_S if jitter else 0.0, classifier or Classifier()),
    )


@dataclass(frozen=True, slots=True)
class InPlace:
    """Says of a node's failure whether the node is tried again in place; a `retry_on`.

    Args:
        config: The node's own limits, and its waits without jitter.
        jitter_s: The longest wait is so many seconds longer.
        classifier: Judges the failure.
    """

    config: RetryConfig
    jitter_s: float
    classifier: Classifier

    def __call__(self, error: Exception) -> bool:
        """Say whether to try again, and count it as one of the run's retries if so."""
        current = CURRENT.get()
        # LangGraph asks on the event loop, where a `__str__` that never returns would end all.
        looked = call_and_wait(lambda: (_task(error), self._failure(error)), about=type(error))
        if isinstance(looked, Late):
            return False
        task, failure = looked
        number = _number(task, current)
        again = failure is not None and self._again(failure, number, current)
        # Forgotten at the end: a later attempt may run the same task in this context.
        _LAST.set(_Tried(current, task, number) if again and task else None)
        return again

    def _failure(self, error: Exception) -> Failure | None:
        """Judge it, unless it is nothing for a node to try again."""
        if any(issubclass(type(found), _NOT_HERE) for found in all_behind(error)):
            return None
        return self.classifier.classify(error)

    def _again(self, failure: Failure, number: int, current: Current | None) -> bool:
        if number > self.config.retries_for(failure.kind):
            return False
        wait_s = self.config.delay(number, 0.0)
        if failure.retry_after and failure.retry_after > min(wait_s, _LONGEST_TOLD_S):  # [P10]
            return False
        with _COUNTING:
            allowed = self._allowed(failure, number, current, wait_s + self.jitter_s)
            if allowed and current is not None:
                current.node_retries += 1
        return allowed

    def _allowed(
        self, failure: Failure, number: int, current: Current | None, wait_s: float
    ) -> bool:
        """Ask `decide()` as the worker would, with the longest wait that may come here."""
        failed, policy, remaining_s = number, self.config, None
        if current is not None and current.policy is not None:
            failed, policy = current.failed_before + current.node_retries + 1, current.policy
        if current is not None and current.deadline is not None:
            remaining_s = current.deadline - current.clock.monotonic()
        here = RetryConfig(
            max_retries=policy.max_retries,
            max_delay=max(wait_s, 1.0),
            backoff=Fixed(wait_s),
            kind_retries=policy.kind_retries,
        )
        decision = decide(
            failure, failed_attempts=failed, policy=here, roll=0.0, remaining_s=remaining_s
        )
        return isinstance(decision, Retry)


def _number(task: str, current: Current | None) -> int:
    """Return how often this node has failed in this attempt, now included."""
    last = _LAST.get()
    if last is None or not task or last.task != task or last.current is not current:
        return 1
    return last.failures + 1


def _task(error: BaseException) -> str:
    """Return the id of the task that failed: each node around it added its note after it."""
    for note in reversed(notes_of(error)):
        match = _TASK_NOTE.fullmatch(note)
        if match is not None:
            return match[1]
    return ""
