"""The guard around a checkpointer: a stale attempt writes nothing, and no node is skipped.

One guard stands for one attempt, not for one thread: an older attempt of the same thread in the
same process is refused too. So a thread is only ever what its owner made of it. [P4]

Every graph of the thread, however deep, reads and writes through it. So it is also where a failed
task is kept from passing for a finished one, and where a loss of scheduled nodes is seen before it
is stored. [P16]
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from redrive.errors import StaleAttemptError, StateChangedError
from redrive.graphs.fidelity import StateVerifier
from redrive.graphs.lease import Lease, LeaseSuspendedError
from redrive.graphs.schedule import ERROR, RAN_KEY, Schedule, control_writes_only
from redrive.graphs.tasks import TASKS, Tasks
from redrive.graphs.unstorable import explain_unstorable, writer_of
from redrive.retry.rules.rule_verdict import repr_of

__all__ = ["WRITES_KEY", "GuardedSaver", "tasks_of"]

_T = TypeVar("_T")

# LangGraph's own name.
_CHECKPOINTER = "__pregel_checkpointer"
WRITES_KEY = "redrive_writes"
"""Metadata of each checkpoint: beside it, a failed task has its error and nothing else."""


class GuardedSaver(BaseCheckpointSaver[Any]):
    """Any checkpointer, seen by one attempt: each write asks the attempt's lease first.

    While the attempt's partition is away, a write waits. A checkpointer of ours asks the lease once
    more when it has the file's lock: that may take long. The lease is asked again after an awaited
    write, so that an attempt that went stale meanwhile (a frozen process, a slow disk) starts no
    further node.

    Args:
        saver: Where checkpoints go.
        lease: The attempt's.
        wrote: Called after each write, from the thread that wrote.
        schedule: What the thread has scheduled; None where nobody asks.
        verifier: Reads back what nodes write; None for nobody.
        tasks: Those of the attempt; None where nobody watches them.

    Attributes:
        tasks: As given.
        unstored: Keys of a run's config and metadata that are kept out of what is stored: LangGraph
            would store them with every checkpoint.
    """

    def __init__(
        self,
        saver: BaseCheckpointSaver[Any],
        lease: Lease,
        *,
        wrote: Callable[[], None] | None = None,
        schedule: Schedule | None = None,
        verifier: StateVerifier | None = None,
        tasks: Tasks | None = None,
    ) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._lease = lease
        self._wrote = wrote or _nothing
        self._schedule = schedule or Schedule("")
        self._verifier = verifier or StateVerifier("off")
        self._writers: dict[str, str] = {}
        self.tasks = tasks
        self.unstored: frozenset[str] = frozenset()

    @property
    def schedule(self) -> Schedule:
        """What the thread has scheduled, as far as this attempt has seen it."""
        return self._schedule

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> GuardedSaver:
        """Guard the same checkpointer with a longer list of types it may read."""
        saver = self._saver.with_allowlist(extra_allowlist)
        guard = GuardedSaver(
            saver,
            self._lease,
            wrote=self._wrote,
            schedule=self._schedule,
            verifier=self._verifier,
            tasks=self.tasks,
        )
        guard._writers = self._writers
        guard.unstored = self.unstored
        return guard

    def get_next_version(self, current: Any, channel: None) -> Any:  # noqa: ANN401 - its own type
        """Number channels the way the checkpointer does."""
        return self._saver.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read as the checkpointer does."""
        return self._found(config, self._call(partial(self._saver.get_tuple, config)))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read as the checkpointer does."""
        return self._found(config, await self._saver.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """List as the checkpointer does."""
        return self._saver.list(config, filter=filter, before=before, limit=limit)

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List as the checkpointer does."""
        return self._saver.alist(config, filter=filter, before=before, limit=limit)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Read as the checkpointer does."""
        read = self._saver.get_delta_channel_history
        return self._call(partial(read, config=config, channels=channels))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Read as the checkpointer does."""
        return await self._saver.aget_delta_channel_history(config=config, channels=channels)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, if the lease is held."""
        metadata = self._check_step(config, checkpoint, metadata)
        put = partial(self._saver.put, self._storable(config), checkpoint, metadata, new_versions)
        try:
            stored = self._held(put)
        except StaleAttemptError:
            raise
        except Exception as error:
            values = checkpoint["channel_values"].items()
            explain_unstorable(error, values, self._saver.serde, writers=self._writers)
            raise
        self._wrote()
        self._lease.check()
        return stored

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, if the lease is held."""
        # First, while nothing else of the run can come between.
        metadata = self._check_step(config, checkpoint, metadata)
        put = partial(self._saver.aput, self._storable(config), checkpoint, metadata, new_versions)
        try:
            stored = await self._aheld(put)
        except StaleAttemptError:
            raise
        except Exception as error:
            values = checkpoint["channel_values"].items()
            explain_unstorable(error, values, self._saver.serde, writers=self._writers)
            raise
        self._wrote()
        await self._lease.confirm()
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a node wrote, if the lease is held."""
        writes = _told(self._check_task(config, writes, task_id, task_path))
        try:
            self._held(partial(self._saver.put_writes, config, writes, task_id, task_path))
        except StaleAttemptError:
            raise
        except Exception as error:
            self._explain_writes(error, config, writes, task_path)
            raise
        self._wrote()

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a node wrote, if the lease is held."""
        writes = _told(self._check_task(config, writes, task_id, task_path))
        try:
            await self._aheld(partial(self._saver.aput_writes, config, writes, task_id, task_path))
        except StaleAttemptError:
            raise
        except Exception as error:
            self._explain_writes(error, config, writes, task_path)
            raise
        self._wrote()

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread, if the lease is held."""
        self._held(partial(self._saver.delete_thread, thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread, if the lease is held."""
        await self._aheld(partial(self._saver.adelete_thread, thread_id))

    def _held(self, write: Callable[[], _T]) -> _T:
        """Write as soon as the lease is held, and while it is."""
        while True:
            self._lease.check()
            try:
                return self._call(write)
            except LeaseSuspendedError:
                continue

    def _call(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except StaleAttemptError as error:
            # Whatever the graph makes of that, this attempt is over.
            self._lease.end(str(error))
            raise

    async def _aheld(self, write: Callable[[], Awaitable[_T]]) -> _T:
        while True:
            await self._lease.admit()
            try:
                return await write()
            except LeaseSuspendedError:
                continue

    def _check_step(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> CheckpointMetadata:
        previous_id = config["configurable"].get("checkpoint_id")
        namespace = self._schedule.namespace(config)
        ran = self._schedule.check_step(namespace, previous_id, checkpoint, metadata)
        return cast("CheckpointMetadata", {**metadata, RAN_KEY: list(ran)})

    def _check_task(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Sequence[tuple[str, Any]]:
        writes = control_writes_only(writes)
        self._schedule.check_task(*self._step(config), task_id, task_path, writes)
        node = self._writer(config, task_path)
        workflow = self._schedule.workflow
        try:
            self._verifier.check(writes, self._saver.serde, workflow=workflow, node=node)
        except StateChangedError as error:
            self._schedule.refuse(error)
        return writes

    def _step(self, config: RunnableConfig) -> tuple[str, str]:
        return self._schedule.namespace(config), str(config["configurable"].get("checkpoint_id"))

    def _writer(self, config: RunnableConfig, task_path: str) -> str | None:
        return writer_of(task_path, self._schedule.sends(self._schedule.namespace(config)))

    def _storable(self, config: RunnableConfig) -> RunnableConfig:
        if not self.unstored:
            return config
        return {
            **config,
            "metadata": self._without(config.get("metadata", {})),
            "configurable": self._without(config.get("configurable", {})),
        }

    def _without(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name not in self.unstored}

    def _explain_writes(
        self,
        error: Exception,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_path: str,
    ) -> None:
        node = self._writer(config, task_path)
        # The checkpoint that takes the writes in fails as well, and its error is the one raised.
        self._writers.update({channel: node for channel, _ in writes if node})
        try:
            explain_unstorable(error, writes, self._saver.serde, writers=self._writers)
        except Exception as unstorable:
            self._schedule.unstorable(*self._step(config), task_path, unstorable)
            raise

    def _found(
        self, config: RunnableConfig, found: CheckpointTuple | None
    ) -> CheckpointTuple | None:
        """Note where a graph goes on from."""
        found = _without_failed_output(found)
        # By its id, an older checkpoint may have been asked for.
        if not config.get("configurable", {}).get("checkpoint_id"):
            self._schedule.loaded(found)
        return found


def tasks_of(config: RunnableConfig) -> Tasks | None:
    """Return the tasks of the attempt that runs with this config; None outside of one.

    A thread that a node has started knows of the attempt only what it was given: its config.
    """
    saver = config.get("configurable", {}).get(_CHECKPOINTER)
    tasks = saver.tasks if isinstance(saver, GuardedSaver) else None
    return tasks or TASKS.get()


def _without_failed_output(found: CheckpointTuple | None) -> CheckpointTuple | None:
    """Drop what failed tasks left beside their errors, where the version before stored it.

    Beside a checkpoint of this version nothing is dropped: there, an error with output is that of a
    task which failed first and then came to its end.
    """
    if found is None or not found.pending_writes or found.metadata.get(WRITES_KEY):
        return found
    by_task: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in found.pending_writes:
        by_task.setdefault(task, []).append((channel, value))
    kept = [
        (task, channel, value)
        for task, writes in by_task.items()
        for channel, value in control_writes_only(writes)
    ]
    return found._replace(pending_writes=kept)


def _nothing() -> None:
    pass


def _told(writes: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    """Return the writes with errors as the text that LangGraph's serialiser stores of them.

    It stores their `repr`, which may raise SystemExit, or be a gigabyte of shared members. [P7]
    """
    return [
        (channel, repr_of(value) if issubclass(type(value), BaseException) else value)
        if channel == ERROR
        else (channel, value)
        for channel, value in writes
    ]
