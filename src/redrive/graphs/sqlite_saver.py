"""LangGraph's SQLite checkpointer with group commit: same tables, same bytes, more runs a second.

SQL and serialisation are LangGraph's own (`SqliteSaver`); files are interchangeable with it and
with `AsyncSqliteSaver`. Values are serialised on the caller's thread, as there, before a node may
change them again.
"""

from __future__ import annotations

import copy
import sqlite3
import threading
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.sqlite import SqliteSaver

from redrive.graphs.group_commit import GroupCommit, Statement
from redrive.graphs.lease import Lease

__all__ = ["GroupedSqliteSaver"]


class _Recorder:
    """What `SqliteSaver` takes for a cursor when it writes: it keeps the statements for later."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []

    def execute(self, sql: str, row: tuple[object, ...]) -> None:
        self.statements.append((sql, (row,)))

    def executemany(self, sql: str, rows: list[tuple[object, ...]]) -> None:
        self.statements.append((sql, rows))


class _Recording(SqliteSaver):
    """LangGraph's saver: writes are recorded on any thread, reads run where they are called."""

    def __init__(
        self, connection: sqlite3.Connection, serializer: SerializerProtocol | None
    ) -> None:
        super().__init__(connection, serde=serializer)
        self.setup()
        self._here = threading.local()

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:  # noqa: FBT001, FBT002 - LangGraph's
        if transaction:
            recorder = _Recorder()
            yield cast("sqlite3.Cursor", recorder)
            self._here.statements = recorder.statements
            return
        cursor = self.conn.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def take(self) -> Sequence[Statement]:
        """Return what this thread's last write recorded."""
        statements: Sequence[Statement] = self._here.statements
        return statements


class GroupedSqliteSaver(BaseCheckpointSaver[str]):
    """A checkpointer on one SQLite file; a write is durable when it returns.

    Args:
        connection: Open, in autocommit mode (`isolation_level=None`), usable from another thread.
            It belongs to this object from now on.
        serializer: What turns values into bytes; None for LangGraph's own.
    """

    def __init__(
        self, connection: sqlite3.Connection, serializer: SerializerProtocol | None = None
    ) -> None:
        self._saver = _Recording(connection, serializer)
        super().__init__(serde=self._saver.serde)
        self.group = GroupCommit(connection)
        self._lease: Lease | None = None

    def under(self, lease: Lease) -> GroupedSqliteSaver:
        """Return one on the same file that writes only while `lease` is held."""
        clone = copy.copy(self)
        clone._lease = lease  # noqa: SLF001 - a copy of ourselves
        return clone

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> GroupedSqliteSaver:
        """Return one on the same file with a longer list of types it may read."""
        clone = copy.copy(self)
        clone._saver = cast("_Recording", self._saver.with_allowlist(extra_allowlist))  # noqa: SLF001 - a copy of ourselves
        clone.serde = clone._saver.serde  # noqa: SLF001 - as above
        return clone

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Number channels the way `SqliteSaver` does."""
        return self._saver.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, or the thread's latest."""
        return self.group.read_now(partial(self._saver.get_tuple, config), lease=self._lease)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, or the thread's latest."""
        return await self.group.read(partial(self._saver.get_tuple, config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """List checkpoints, newest first."""
        yield from self.group.read_now(
            self._listing(config, filter, before, limit), lease=self._lease
        )

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List checkpoints, newest first."""
        for found in await self.group.read(self._listing(config, filter, before, limit)):
            yield found

    def _listing(
        self,
        config: RunnableConfig | None,
        wanted: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> partial[tuple[CheckpointTuple, ...]]:
        listed = partial(self._saver.list, config, filter=wanted, before=before, limit=limit)
        return partial(lambda: tuple(listed()))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Read the writes behind channels that are stored as differences."""
        read = self._saver.get_delta_channel_history
        return self.group.read_now(
            partial(read, config=config, channels=channels), lease=self._lease
        )

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Read the writes behind channels that are stored as differences."""
        read = self._saver.get_delta_channel_history
        return await self.group.read(partial(read, config=config, channels=channels))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        stored = self._saver.put(config, checkpoint, metadata, new_versions)
        self.group.write_now(self._saver.take(), lease=self._lease)
        return stored

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        stored = self._saver.put(config, checkpoint, metadata, new_versions)
        await self.group.write(self._saver.take(), lease=self._lease)
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a node wrote."""
        self._saver.put_writes(config, writes, task_id, task_path)
        self.group.write_now(self._saver.take(), lease=self._lease)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a node wrote."""
        self._saver.put_writes(config, writes, task_id, task_path)
        await self.group.write(self._saver.take(), lease=self._lease)

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with all that it wrote."""
        self._saver.delete_thread(thread_id)
        self.group.write_now(self._saver.take(), lease=self._lease)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread with all that it wrote."""
        self._saver.delete_thread(thread_id)
        await self.group.write(self._saver.take(), lease=self._lease)
