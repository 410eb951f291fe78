"""Every error that redrive raises.

    RedriveError
    ├── SettingsError            the settings cannot work; seen at start (exit code 2)
    │   └── MissingExtraError    an optional dependency is not installed
    ├── RecordError              a record cannot be read; names the field
    ├── KafkaUnavailableError    the broker did not answer in time
    ├── KafkaLostError           the consumer cannot go on (exit code 3)
    ├── FencedError              another worker with the same identity took over (exit code 4)
    ├── NotStoredError           the broker did not confirm a record
    ├── NotifyError              a channel did not take a message
    ├── TransientError           raise it in a node: trying again can help
    │   └── RateLimitedError     raise it in a node: not before `retry_after`
    ├── PermanentError           raise it in a node: trying again cannot help
    │   ├── UnknownWorkflowError no graph is registered for this `workflow_id`
    │   ├── UnsignedError        an event bears no signature that counts
    │   ├── NotAllowedError      its key may not start this workflow
    │   ├── GraphChangedError    the checkpoint waits for a node that is gone
    │   ├── CheckpointGoneError  a letter's run left a checkpoint, and it is not there
    │   ├── ThreadMovedOnError   another run has worked on the letter's thread
    │   ├── OtherInputError      another event of the same id has run on the thread
    │   ├── ThreadOfAnotherError the thread that an event names is another workflow's
    │   ├── DeadHandlerError     an error handler of the graph raised
    │   ├── UnknownNodeError     the run was sent to a node that the graph does not have
    │   ├── EmptyInterruptError  a node raised an interrupt that asks nothing
    │   ├── FalsyError           a node raised an error that counts as false
    │   ├── SkippedNodeError     the run came to its end with nodes left out
    │   ├── StateChangedError    what a node wrote would not come back as it was
    │   ├── StateTypeError       a state holds a type that no checkpoint may become
    │   ├── NodeExitError        a node raised SystemExit, KeyboardInterrupt or GeneratorExit
    │   ├── NotInNodeError       what only a node can ask was asked elsewhere
    │   ├── CodecError           a payload cannot be decoded, or encoded
    │   └── ResultError          the graph's result is not JSON, or too large
    ├── DeadlineError            the run's deadline passed while it ran
    ├── RestExpiredError         it passed while the run waited for a service's rest to end
    ├── AttemptTimeoutError      one attempt took longer than it may
    ├── IdleTimeoutError         no node of an attempt moved for too long
    ├── StuckNodeError           a node goes on after its end: exit code 75
    ├── StandstillError          a worker waits for what should have come: exit code 75
    ├── ProcessDiedError         the process died each time while this event ran
    └── StaleAttemptError        this attempt has ended, or its partition moved

An error that ends an attempt says so on its class: `__redrive_kind__` and `__redrive_reason__`
(see `Kind` and `Reason` in `redrive.retry.kinds`).
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

__all__ = [
    "AttemptTimeoutError",
    "CheckpointGoneError",
    "CodecError",
    "DeadHandlerError",
    "DeadlineError",
    "EmptyInterruptError",
    "FalsyError",
    "FencedError",
    "GraphChangedError",
    "IdleTimeoutError",
    "KafkaLostError",
    "KafkaUnavailableError",
    "MissingExtraError",
    "NodeExitError",
    "NotAllowedError",
    "NotInNodeError",
    "NotStoredError",
    "NotifyError",
    "OtherInputError",
    "PermanentError",
    "ProcessDiedError",
    "RateLimitedError",
    "RecordError",
    "RedriveError",
    "RestExpiredError",
    "ResultError",
    "SettingsError",
    "SkippedNodeError",
    "StaleAttemptError",
    "StandstillError",
    "StateChangedError",
    "StateTypeError",
    "StuckNodeError",
    "ThreadMovedOnError",
    "ThreadOfAnotherError",
    "TransientError",
    "UnknownNodeError",
    "UnknownWorkflowError",
    "UnsignedError",
]


class RedriveError(Exception):
    """The root of every error that redrive raises."""


class SettingsError(RedriveError):
    """The settings cannot work. The message says which one, and what to do."""


class MissingExtraError(SettingsError):
    """An optional dependency is not installed."""

    def __init__(self, *, module: str, extra: str) -> None:
        super().__init__(f"{module} is not installed: install redrive[{extra}]")
        self.module = module
        self.extra = extra


class RecordError(RedriveError):
    """A record cannot be read. The message names the field."""

    __redrive_kind__: ClassVar[str] = "poison"
    __redrive_reason__: ClassVar[str] = "unreadable"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class KafkaUnavailableError(RedriveError):
    """The broker did not answer within the time that it was given."""

    __redrive_kind__: ClassVar[str] = "transient"


class KafkaLostError(RedriveError):
    """The consumer has met an error from which it cannot go on; a new process may."""


class FencedError(RedriveError):
    """Another worker with the same identity took over; this one must end."""


class NotStoredError(RedriveError):
    """The broker did not confirm a record: take it as not stored.

    Args:
        message: Which record, and why.
        kind: `permanent` where sending it again cannot help.
    """

    def __init__(self, message: str, *, kind: str = "transient") -> None:
        super().__init__(message)
        self.__redrive_kind__ = kind


class NotifyError(RedriveError):
    """A channel did not take a message, or did not say so in time."""

    __redrive_kind__: ClassVar[str] = "transient"


class TransientError(RedriveError):
    """Raise it in a node when trying again can help."""

    __redrive_kind__: ClassVar[str] = "transient"


class RateLimitedError(TransientError):
    """Raise it in a node when a service asked to come back later.

    Args:
        message: What was limited, and by whom.
        retry_after: Seconds to wait at least, or None when the service did not say.
        dependency: The service, as a host or a name: other workflows that call it rest as well.
    """

    __redrive_kind__: ClassVar[str] = "rate_limited"

    def __init__(
        self,
        message: str = "rate limited",
        *,
        retry_after: float | None = None,
        dependency: str | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.__redrive_dependency__ = dependency


class PermanentError(RedriveError):
    """Raise it in a node when trying again cannot help."""

    __redrive_kind__: ClassVar[str] = "permanent"


class UnknownWorkflowError(PermanentError):
    """No graph is registered for this `workflow_id`, and none for `*`."""

    __redrive_reason__: ClassVar[str] = "unknown_workflow"

    def __init__(self, workflow_id: str, *, known: tuple[str, ...]) -> None:
        names = ", ".join(known) or "none"
        super().__init__(
            f"no graph for workflow_id {workflow_id!r}; registered: {names}. "
            "Register it with --graph ID=module:attribute, or one named '*' for all others"
        )
        self.workflow_id = workflow_id
        self.known = known


class CodecError(PermanentError):
    """A payload cannot be decoded or encoded: its key is not here, or it was changed.

    A codec of the user's raises it where trying again cannot help; whatever else it raises is
    judged as any failure is. It is told of in logs and letters: put no payload into the message.
    """

    __redrive_reason__: ClassVar[str] = "codec_failed"


class GraphChangedError(PermanentError):
    """The checkpoint waits for a node that the graph no longer has."""

    __redrive_reason__: ClassVar[str] = "graph_changed"

    def __init__(self, *, workflow: str, missing: tuple[str, ...]) -> None:
        super().__init__(
            f"graph {workflow!r} no longer has the node(s) {', '.join(missing)} where this run "
            "stopped: restart the run, or deploy that version of the graph again"
        )
        self.workflow = workflow
        self.missing = missing


class CheckpointGoneError(PermanentError):
    """A letter is to be resumed, its run left a checkpoint, and that is not there any more."""

    __redrive_reason__: ClassVar[str] = "checkpoint_gone"

    def __init__(self, *, thread_id: str, checkpoint_id: str) -> None:
        super().__init__(
            f"thread {thread_id!r} has no checkpoint, and the letter's run had stopped at "
            f"{checkpoint_id!r}: look whether checkpoints.url is the one of then, or restart the "
            "run"
        )
        self.thread_id = thread_id
        self.checkpoint_id = checkpoint_id


class ThreadMovedOnError(PermanentError):
    """A letter is to be resumed, and another run has worked on its thread since."""

    __redrive_reason__: ClassVar[str] = "thread_moved_on"

    def __init__(self, *, thread_id: str, stopped_at: str, now_at: str) -> None:
        super().__init__(
            f"thread {thread_id!r} is at checkpoint {now_at!r}, and the letter's run had stopped "
            f"at {stopped_at!r}: another run went on from there; restart this one"
        )
        self.thread_id = thread_id
        self.stopped_at = stopped_at
        self.now_at = now_at


class OtherInputError(PermanentError):
    """An event has the id of another one, which ran before it on the same partition."""

    __redrive_reason__: ClassVar[str] = "other_input"

    def __init__(self, *, event_id: str, workflow: str) -> None:
        # Nothing of the other run: whoever sent this may not be the one who sent that.
        super().__init__(
            f"an event with the id {event_id!r} came before this one on its partition, for another "
            f"workflow than {workflow!r} or with another input: give each event an id of its own; "
            "where it is the same event, changed on purpose, restart it"
        )
        self.event_id = event_id
        self.workflow = workflow


class ThreadOfAnotherError(PermanentError):
    """An event names a thread that belongs to another workflow."""

    __redrive_reason__: ClassVar[str] = "thread_of_another"

    def __init__(self, *, thread_id: str, workflow: str) -> None:
        super().__init__(
            f"thread {thread_id!r} is not one of workflow {workflow!r}: it belongs to the workflow "
            "that first used it; name another thread, or send the event to that workflow"
        )
        self.thread_id = thread_id
        self.workflow = workflow


class DeadHandlerError(PermanentError):
    """An error handler of the graph raised: the thread looks finished but is not."""

    __redrive_reason__: ClassVar[str] = "error_handler_failed"


class UnknownNodeError(PermanentError):
    """A `Command`, a `Send` or a router sends the run to a node that its graph does not have.

    LangGraph only logs a warning, and takes the run for finished.
    """

    def __init__(self, *, workflow: str, targets: tuple[str, ...]) -> None:
        super().__init__(
            f"graph {workflow!r} was sent to {', '.join(map(repr, targets))}, and has no such "
            "node: correct the name in the goto, the Send or the router"
        )
        self.workflow = workflow
        self.targets = targets


class EmptyInterruptError(PermanentError):
    """A node raised a `GraphInterrupt` without a question: nobody could ever answer it."""

    def __init__(self, node: str) -> None:
        super().__init__(
            f"node {node!r} raised a GraphInterrupt that asks nothing, so that no answer could let "
            "the run go on: call interrupt(value) instead"
        )
        self.node = node


class FalsyError(PermanentError):
    """A node raised an error whose `bool()` is False: LangGraph would take it for none."""

    def __init__(self, error: BaseException) -> None:
        kind = type(error).__qualname__
        super().__init__(
            f"the node raised a {kind} that counts as false (its __bool__ or __len__): let errors "
            "be true"
        )


class SkippedNodeError(PermanentError):
    """LangGraph ended the run, and nodes that were scheduled did not run."""

    def __init__(self, *, workflow: str, skipped: tuple[str, ...]) -> None:
        super().__init__(
            f"graph {workflow!r} ended, and the scheduled node(s) {', '.join(skipped)} did not "
            "run: this is no success; see whether a node raised a GraphBubbleUp, or restart the run"
        )
        self.workflow = workflow
        self.skipped = skipped


class StateChangedError(PermanentError):
    """What a node wrote would come back from its checkpoint as something else.

    Raised with `checkpoints.verify = "refuse"`; nothing of it was stored.
    """

    def __init__(self, *, node: str | None, place: str, was: str, becomes: str) -> None:
        writer = f" of node {node!r}" if node else ""
        super().__init__(
            f"{place}{writer} would be changed by its checkpoint: {was} becomes "
            f"{becomes}; use a type that is kept (docs/state-types.md), or set checkpoints.verify "
            "to warn"
        )
        self.node = node
        self.place = place
        self.was = was
        self.becomes = becomes


class StateTypeError(PermanentError):
    """A state holds a type that a checkpoint may not become.

    Args:
        types: Which ones, as `module.Class`.
        place: Where in the state, as `state['invoice']`.
        node: Which node wrote it; None where nobody knows.
        stored: Whether it is in a checkpoint; else it was to be stored, and nothing was.
    """

    def __init__(
        self,
        types: tuple[str, ...],
        *,
        place: str | None = None,
        node: str | None = None,
        stored: bool = False,
    ) -> None:
        where = (place or "a value") + (f" of node {node!r}" if node else "")
        holds = f"in a checkpoint {where} is" if stored else f"{where} cannot be stored: it is"
        named = " and ".join(types)
        super().__init__(
            f"{holds} of type {named}, which no checkpoint may become; name it in the schema of "
            f"the graph's state, or in checkpoints.allowed_types = {list(types)}"
        )
        self.types = types
        self.place = place
        self.node = node


class NodeExitError(PermanentError):
    """A node raised what ends a process; it ends only its own run.

    Args:
        raised: The SystemExit, KeyboardInterrupt or GeneratorExit.
    """

    def __init__(self, raised: BaseException) -> None:
        code = raised.code if isinstance(raised, SystemExit) else None
        exits = isinstance(raised, SystemExit)
        told = f"called sys.exit({code!r})" if exits else f"raised {type(raised).__name__}"
        super().__init__(f"the node {told}")
        self.code = code


class NotInNodeError(PermanentError):
    """What only a node of a redrive run can ask was asked elsewhere."""

    def __init__(self, asked: str) -> None:
        super().__init__(
            f"{asked} was called outside an attempt of redrive: call it in a node, or in what a "
            "node calls, and run a thread of your own with the node's context "
            "(contextvars.copy_context().run)"
        )


class ResultError(PermanentError):
    """The graph ended, but its result cannot be published.

    Args:
        message: What is wrong with it.
        reason: `result_not_json` or `result_too_large`.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.__redrive_reason__ = reason


class UnsignedError(PermanentError):
    """An event bears no signature that counts, and only signed ones are run.

    Args:
        why: What is wrong with its signature.
    """

    __redrive_reason__: ClassVar[str] = "unsigned"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}; only signed events are run here (security.require = refuse). A redrive by who "
            "has a key signs it"
        )


class NotAllowedError(PermanentError):
    """An event is signed by a key that may not start its workflow.

    Args:
        key: The key's name.
        workflow_id: The workflow.
    """

    __redrive_reason__: ClassVar[str] = "not_allowed"

    def __init__(self, *, key: str, workflow_id: str) -> None:
        super().__init__(
            f"key {key!r} may not start workflow {workflow_id!r} "
            f"(security.producers.{key}.workflows)"
        )
        self.key = key
        self.workflow_id = workflow_id


class DeadlineError(RedriveError):
    """The run's deadline passed while it ran: nobody wants the result any more."""

    __redrive_kind__: ClassVar[str] = "timeout"
    __redrive_reason__: ClassVar[str] = "deadline"

    def __init__(self, message: str = "the run's deadline passed while it ran") -> None:
        super().__init__(message)


class RestExpiredError(RedriveError):
    """The run's deadline passed while a service had asked that nothing of its workflow starts.

    Args:
        dependency: The service, or None where the failure of the run that it refused named none.
        workflow_id: The workflow of the run that was refused.
        event_id: That run's event, or None where it is not known any more.
        asked_s: For how long the service wanted to be left alone, in seconds.
        until: Until when runs that call it were held back.
    """

    __redrive_kind__: ClassVar[str] = "timeout"
    __redrive_reason__: ClassVar[str] = "expired_resting"

    def __init__(
        self,
        *,
        dependency: str | None,
        workflow_id: str,
        event_id: str | None,
        asked_s: float,
        until: datetime,
    ) -> None:
        who = dependency or "a service that its workflow calls"
        super().__init__(
            f"the deadline passed while the run was held back: {who} had refused a run of workflow "
            f"{workflow_id!r} with a rate limit and asked for a wait of {asked_s:.10g} s, so "
            f"nothing that calls it was to start before {until:%Y-%m-%dT%H:%M:%SZ} (bounded by "
            "retry.longest_rest); redrive the letter once the service answers"
        )
        if event_id is not None:
            # Not in the message: equal causes have equal messages, also after a restart.
            self.add_note(f"the run that was refused is that of event {event_id}")
        self.dependency = dependency
        self.workflow_id = workflow_id
        self.event_id = event_id
        self.asked_s = asked_s
        self.until = until


class AttemptTimeoutError(RedriveError):
    """One attempt took longer than `graphs.<id>.attempt_timeout`; another may follow."""

    __redrive_kind__: ClassVar[str] = "timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the attempt took longer than its {limit_s:g} s (attempt_timeout)")
        self.limit_s = limit_s


class IdleTimeoutError(RedriveError):
    """No node of the attempt moved for longer than `graphs.<id>.idle_timeout`."""

    __redrive_kind__: ClassVar[str] = "timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no node made progress for {limit_s:g} s (idle_timeout)")
        self.limit_s = limit_s


class StuckNodeError(RedriveError):
    """A node went on after its attempt was ended; only replacing the process ends it."""

    __redrive_kind__: ClassVar[str] = "timeout"
    __redrive_reason__: ClassVar[str] = "stuck"


class StandstillError(RedriveError):
    """Nothing moves in a worker though Kafka is there; only replacing the process helps.

    Args:
        waits_for: What it waits for, in words.
        limit_s: For how long it may, in seconds.
    """

    def __init__(self, waits_for: str, *, limit_s: float) -> None:
        super().__init__(
            f"Kafka is there, and for more than {limit_s:g} s (worker.standstill) the worker has "
            f"waited for {waits_for}: it exits, so that it can be replaced"
        )
        self.waits_for = waits_for


class ProcessDiedError(RedriveError):
    """The process died each time while this event ran.

    Args:
        crashes: How often.
        last: How the last one ended, where that is known.
    """

    __redrive_kind__: ClassVar[str] = "poison"
    __redrive_reason__: ClassVar[str] = "crashed"

    def __init__(self, crashes: int, *, last: str | None = None) -> None:
        told = f"; the last one: {last}" if last else ""
        super().__init__(
            f"the worker's process died {crashes} times while this event ran{told}: it is not "
            "started again"
        )
        self.crashes = crashes
        self.last = last


class StaleAttemptError(RedriveError):
    """This attempt has ended or its partition moved: nothing of it may be written."""

    __redrive_kind__: ClassVar[str] = "cancelled"
