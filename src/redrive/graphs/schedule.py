"""What the checkpoints of a thread have scheduled, and whether all of it ran.

LangGraph drops without an error what it cannot place: on a resume, a node that the graph no longer
has (in a subgraph the parent then takes the subgraph for done); at any time, a `goto` to a node
that never was. Each namespace of a thread is followed here by what is loaded and stored of it, and
the checkpoint that would make such a loss final is refused.

What must never happen: the checkpoint of the next step is stored while something that the step
before had scheduled did not run. [P16]
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.types import Send

from redrive.errors import GraphChangedError, RedriveError, SkippedNodeError, UnknownNodeError

__all__ = [
    "BRANCH",
    "NEXT_KEY",
    "RAN_KEY",
    "SENDS",
    "Schedule",
    "Scheduled",
    "control_writes_only",
    "finished_tasks",
    "is_named_by",
    "lost_targets",
    "missing_nodes",
    "ran_last",
    "scheduled",
]

# LangGraph's own names, stored with each checkpoint.
BRANCH, SENDS = "branch:to:", "__pregel_tasks"
ERROR = "__error__"
RAN_KEY = "redrive_ran"
"""Metadata of a checkpoint: the nodes that the step before it has run."""
NEXT_KEY = "redrive_next"
"""Metadata of a checkpoint: the nodes that come next and that it does not name itself."""
_JOIN = "join:"
_HANDLER_STARTED = "__error_source_node__"
_CONTROL = frozenset({ERROR, _HANDLER_STARTED, "__interrupt__", "__resume__"})
# The path of a `@task` that a node calls holds that of its caller.
_PUSHED = "~__pregel_push, "
_CALL = f"{_PUSHED}~"
_NULL_TASK = "00000000-0000-0000-0000-000000000000"

Writes = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A node that the next step is to run, and the channel that says so."""

    node: str
    channel: str


@dataclass(slots=True)
class _Namespace:
    """Where one graph of the thread stands: the thread's own, or one subgraph of one task.

    `sends` are the `Send`s of the next step, `held` is what waits for more than the next step.
    """

    checkpoint_id: str
    scheduled: tuple[Scheduled, ...]
    held: tuple[Scheduled, ...]
    sends: Sequence[object]
    versions: Mapping[str, Any]

    @classmethod
    def at(cls, checkpoint: Checkpoint) -> _Namespace:
        """Read a namespace from its latest checkpoint."""
        return cls(
            checkpoint_id=checkpoint["id"],
            scheduled=scheduled(checkpoint),
            held=_held(checkpoint),
            sends=checkpoint["channel_values"].get(SENDS, ()),
            versions=dict(checkpoint["channel_versions"]),
        )


@dataclass(slots=True)
class _Step:
    """What the tasks of one step have told, each of them by itself.

    `goto` are the channels that they sent the run to nodes by, `failed` is what they raised,
    `unstorable` why what some of them wrote cannot be stored, by their paths.
    """

    goto: set[str] = field(default_factory=set)
    failed: dict[str, BaseException] = field(default_factory=dict)
    unstorable: dict[str, BaseException] = field(default_factory=dict)

    def unstorable_call(self, task_path: str) -> BaseException | None:
        """Return why what a `@task` returned to this task cannot be stored."""
        calls = f"{_PUSHED}{task_path}, "
        return next((why for at, why in self.unstorable.items() if at.startswith(calls)), None)


def scheduled(checkpoint: Checkpoint) -> tuple[Scheduled, ...]:
    """Read from a checkpoint itself which nodes come next, also nodes that the graph does not have.

    `StateSnapshot.next` lists only nodes that the graph has: with a node gone, a run in the middle
    of its work looks finished.
    """
    found = []
    for channel, value in checkpoint["channel_values"].items():
        if channel.startswith(BRANCH):
            if _is_due(value):
                found.append(Scheduled(channel.removeprefix(BRANCH), channel))
        elif channel == SENDS:
            found.extend(Scheduled(send.node, channel) for send in value if isinstance(send, Send))
    found.extend(
        one
        for one in _held(checkpoint)
        if one.channel.startswith(_JOIN)
        and _is_complete(checkpoint["channel_values"][one.channel], one.channel)
    )
    return tuple(sorted(set(found), key=lambda one: (one.node, one.channel)))


def is_named_by(channel: str) -> bool:
    """Say whether a channel names the nodes that it makes run.

    Those of a StateGraph do; not those of a graph that was made of `Pregel` and `NodeBuilder`, or
    of a function with `@entrypoint`.
    """
    return channel.startswith((BRANCH, _JOIN)) or channel == SENDS


def missing_nodes(
    checkpoint: Checkpoint,
    metadata: Mapping[str, Any],
    pending: Iterable[tuple[str, str, Any]],
    *,
    nodes: Container[str],
    channels: Container[str],
) -> tuple[str, ...]:
    """Return the nodes that a checkpoint waits for, or sends the run to, and a graph does not have.

    Args:
        checkpoint: The latest of its namespace.
        metadata: The checkpoint's.
        pending: What tasks of its next step have stored: `(task id, channel, value)`.
        nodes: The graph's.
        channels: The graph's.
    """
    waited = (*scheduled(checkpoint), *_held(checkpoint), *_sent_to(pending))
    gone = {one.node for one in waited if one.node not in nodes or one.channel not in channels}
    gone.update(node for node in metadata.get(NEXT_KEY, ()) if node not in nodes)
    return tuple(sorted(gone))


def lost_targets(
    writes: Iterable[tuple[str, Any]], *, nodes: Container[str], channels: Container[str]
) -> tuple[str, ...]:
    """Return the nodes that what a task wrote sends the run to, and a graph does not have."""
    lost = []
    for channel, value in writes:
        if channel.startswith(BRANCH) and channel not in channels:
            lost.append(channel.removeprefix(BRANCH))
        elif channel == SENDS and isinstance(value, Send) and value.node not in nodes:
            lost.append(value.node)
    return tuple(lost)


def control_writes_only(writes: Writes) -> Writes:
    """Return what may be stored of a task: of one that failed, its error alone.

    A conditional edge that raises leaves what its node wrote beside the error, and LangGraph takes
    a task with any output for done: the router would never run again (langgraph#8834). An error
    that a handler of the graph takes on is another matter, and stays as it is.
    """
    channels = {channel for channel, _ in writes}
    if ERROR not in channels or _HANDLER_STARTED in channels:
        return writes
    return [write for write in writes if write[0] in _CONTROL]


def finished_tasks(found: CheckpointTuple) -> frozenset[str]:
    """Return the ids of the tasks of the next step whose results are stored already."""
    return frozenset(
        task
        for task, channel, _ in found.pending_writes or ()
        # A node whose error handler has started is not run again: the handler is.
        if channel not in _CONTROL or channel == _HANDLER_STARTED
    )


def ran_last(checkpoint: Checkpoint, metadata: Mapping[str, Any]) -> frozenset[str]:
    """Read which nodes the step has run that led to a checkpoint.

    Where the version before has stored it, those of a `Send` are not seen: there, what triggers a
    node was cleared by the step that ran it, and has the newest version.
    """
    if RAN_KEY in metadata:
        return frozenset(metadata[RAN_KEY])
    versions = checkpoint["channel_versions"]
    newest = max(versions.values(), default=None)
    return frozenset(
        node
        for node, seen in checkpoint["versions_seen"].items()
        if any(
            versions.get(channel) == newest
            and channel.startswith((BRANCH, _JOIN))
            and seen[channel] != newest
            for channel in seen
        )
    )


class Schedule:
    """Follows the namespaces of one thread through one attempt.

    Args:
        workflow: The graph's name, for messages.
        thread_id: The thread's; without one, all that is seen is taken for its own.
    """

    def __init__(self, workflow: str, *, thread_id: str | None = None) -> None:
        self.workflow = workflow
        self._thread_id = thread_id
        self.results: set[str] = set()
        """The ids of tasks whose results this attempt has stored."""
        self._namespaces: dict[str, _Namespace] = {}
        # By namespace, then by the checkpoint that the step begins at.
        self._steps: dict[str, dict[str, _Step]] = {}
        self._lost: BaseException | None = None

    def namespace(self, config: RunnableConfig) -> str:
        """Return the namespace that a config names.

        A node may run a graph on another thread through the same checkpointer: its root is none of
        ours.
        """
        configurable = config.get("configurable", {})
        name, thread_id = str(configurable.get("checkpoint_ns", "")), configurable.get("thread_id")
        if self._thread_id is None or thread_id == self._thread_id:
            return name
        return f"{thread_id}\0{name}"

    def loaded(self, found: CheckpointTuple | None) -> None:
        """Note a namespace as its latest checkpoint has it."""
        if found is None:
            return
        namespace = self.namespace(found.config)
        known = self._namespaces.get(namespace)
        # What this attempt stores may be on its way yet: the ids of checkpoints grow.
        if known is None or known.checkpoint_id <= found.checkpoint["id"]:
            sent = _sent_to(found.pending_writes or ())
            goto = {one.channel for one in sent if one.channel != SENDS}
            self._is_at(namespace, found.checkpoint)
            self._steps[namespace][found.checkpoint["id"]] = _Step(goto=goto)

    def is_at(self, namespace: str, checkpoint_id: str) -> bool:
        """Tell whether this is the latest checkpoint of a namespace: stored, or on its way.

        On its way only where the first step of a run is a node: in a function with `@entrypoint`.
        """
        known = self._namespaces.get(namespace)
        return known is not None and known.checkpoint_id == checkpoint_id

    def sends(self, namespace: str) -> Sequence[object]:
        """Return the `Send`s of the next step of a namespace, in their order."""
        known = self._namespaces.get(namespace)
        return () if known is None else known.sends

    def check_step(
        self,
        namespace: str,
        previous_id: str | None,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
    ) -> tuple[str, ...]:
        """Look, before the checkpoint is stored, whether the step before it has run in full.

        Returns the nodes that it has run.

        Raises:
            GraphChangedError: A scheduled node did not run.
            UnknownNodeError: The run was sent to a node that is not there.
            BaseException: What a node of the step has raised, or why what one wrote could not be
                stored.
        """
        self._check_lost()
        ran: tuple[str, ...] = ()
        before = self._namespaces.get(namespace)
        told = None if before is None else self._step(namespace, before.checkpoint_id)
        if told is not None and told.unstorable:
            # The attempt goes on elsewhere: whoever called this graph may do without it.
            raise next(iter(told.unstorable.values()))
        if (
            before is not None
            and told is not None
            and metadata.get("source") == "loop"
            and previous_id == before.checkpoint_id
        ):
            # LangGraph knows handled errors by their `id()`, which a later one may have again: it
            # then takes a failed task for done, and the step for complete.
            failed = next(iter(told.failed.values()), None)
            self._lost = failed or self._loss(before, told.goto, checkpoint)
            self._check_lost()
            ran = _names(before.scheduled)
        self._is_at(namespace, checkpoint)
        return ran

    def check_task(
        self, namespace: str, checkpoint_id: str, task_id: str, task_path: str, writes: Writes
    ) -> None:
        """Note, before what a task wrote is stored, what it raised and where it sends the run.

        LangGraph stores in the background: it may come before the checkpoint that it belongs to
        (`durability="async"`), and after the next one (in threads).

        Raises:
            BaseException: Something of this attempt was refused before, or what a call has returned
                to the task cannot be stored.
        """
        self._check_lost()
        has_result = any(channel not in _CONTROL for channel, _ in writes)
        if has_result:
            self.results.add(task_id)
        step = self._step(namespace, checkpoint_id)
        if has_result and (why := step.unstorable_call(task_path)) is not None:
            raise why
        # What a `@task` raises goes to its caller, who may go on.
        if not task_path.startswith(_CALL):
            step.failed.update((task_id, error) for error in _raised(writes))
        if has_result:
            step.failed.pop(task_id, None)
            step.goto.update(c for c, _ in writes if c.startswith((BRANCH, _JOIN)))

    def unstorable(
        self, namespace: str, checkpoint_id: str, task_path: str, error: BaseException
    ) -> None:
        """Note why what a task wrote cannot be stored: its step must not pass for done.

        The checkpoint after it need not hold the value: a reducer may have made another of it, and
        what a `@task` returns is in none. LangGraph raises the error only at the run's end, when
        all has been stored.
        """
        self._step(namespace, checkpoint_id).unstorable[task_path] = error

    def refuse(self, error: RedriveError) -> None:
        """Refuse this write and all that follow.

        LangGraph stores in the background: it may come with the next step's checkpoint before it
        has heard that a task's result was refused.
        """
        self._lost = error
        raise error

    def check_end(self) -> None:
        """Look whether the thread's own graph has nothing left to do.

        Raises:
            SkippedNodeError: It has.
        """
        left = self.left()
        if left:
            raise SkippedNodeError(workflow=self.workflow, skipped=left)

    def left(self) -> tuple[str, ...]:
        """Return the nodes of the thread's own graph that are scheduled."""
        root = self._namespaces.get("")
        return () if root is None else _names(root.scheduled)

    def _is_at(self, namespace: str, checkpoint: Checkpoint) -> None:
        """Note a namespace's latest checkpoint; what was told of earlier ones is over."""
        self._namespaces[namespace] = _Namespace.at(checkpoint)
        steps = self._steps.get(namespace, {})
        self._steps[namespace] = {at: one for at, one in steps.items() if at >= checkpoint["id"]}

    def _step(self, namespace: str, checkpoint_id: str) -> _Step:
        here = self._namespaces.get(namespace)
        if here is not None and checkpoint_id < here.checkpoint_id:
            # It has been judged: nobody asks for it any more.
            return _Step()
        return self._steps.setdefault(namespace, {}).setdefault(checkpoint_id, _Step())

    def _check_lost(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _loss(
        self, before: _Namespace, goto: set[str], checkpoint: Checkpoint
    ) -> RedriveError | None:
        seen = checkpoint["versions_seen"]
        missing = [
            one
            for one in before.scheduled
            if one.node not in seen
            or (
                one.channel != SENDS
                and not _reaches(seen[one.node].get(one.channel), before.versions.get(one.channel))
            )
        ]
        # What is held is lost with its channel.
        missing += [one for one in before.held if one.channel not in checkpoint["channel_values"]]
        if missing:
            return GraphChangedError(workflow=self.workflow, missing=_names(missing))
        versions = checkpoint["channel_versions"]
        lost = sorted(
            channel.rpartition(":")[2]
            for channel in goto
            if versions.get(channel) == _unmoved(channel, before.versions)
        )
        return UnknownNodeError(workflow=self.workflow, targets=tuple(lost)) if lost else None


def _held(checkpoint: Checkpoint) -> tuple[Scheduled, ...]:
    """Read what waits in a checkpoint for more than the next step.

    Joins (`add_edge([a, b], c)`) that something has arrived at, complete or not, and deferred nodes
    that are to run when all else has.
    """
    found = []
    for channel, value in checkpoint["channel_values"].items():
        if channel.startswith(_JOIN) and _arrived(value):
            found.append(Scheduled(channel.rpartition(":")[2], channel))
        elif channel.startswith(BRANCH) and not _is_due(value):
            found.append(Scheduled(channel.removeprefix(BRANCH), channel))
    return tuple(found)


def _sent_to(pending: Iterable[tuple[str, str, Any]]) -> tuple[Scheduled, ...]:
    """Read where the finished tasks of the next step send the run, before it is taken in."""
    sent = []
    for task, channel, value in pending:
        if task == _NULL_TASK:
            continue
        if channel.startswith((BRANCH, _JOIN)):
            sent.append(Scheduled(channel.rpartition(":")[2], channel))
        elif channel == SENDS and isinstance(value, Send):
            sent.append(Scheduled(value.node, channel))
    return tuple(sent)


def _unmoved(channel: str, versions: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as the saver has it
    """Return the version that a channel has after a step if it took nothing in.

    A second arrival at a join changes nothing there; a join that is gone has no version.
    """
    return None if channel.startswith(_JOIN) else versions.get(channel)


def _raised(writes: Writes) -> list[BaseException]:
    """Return what a task raised that no error handler takes on."""
    if any(channel == _HANDLER_STARTED for channel, _ in writes):
        return []
    return [
        value
        for channel, value in writes
        if channel == ERROR and issubclass(type(value), BaseException)
    ]


def _names(those: Iterable[Scheduled]) -> tuple[str, ...]:
    return tuple(sorted({one.node for one in those}))


def _is_due(value: object) -> bool:
    # A deferred node's channel holds its value and whether everything else has finished.
    match value:
        case (_, bool(finished)):
            return finished
        case _:
            return True


def _arrived(value: object) -> set[Any]:
    """Return what has arrived at a join; of a deferred one, the set is the first of two."""
    match value:
        case set(names) | (set(names), bool()):
            return names
        case _:
            return set()


def _is_complete(value: object, channel: str) -> bool:
    sources = channel.removeprefix(_JOIN).rpartition(":")[0].split("+")
    finished = not isinstance(value, tuple | list) or bool(value[1])
    return finished and _arrived(value) >= set(sources)


def _reaches(seen: Any, version: Any) -> bool:  # noqa: ANN401 - numbers or text, as the saver has it
    return seen is not None and (version is None or seen >= version)
