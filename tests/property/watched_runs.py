"""Sees what an attempt executes and what is kept of it, and lets its faults happen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.config import get_config
from langgraph.errors import GraphDrained, GraphInterrupt
from tests.property.random_cases import Fault, Kind, Stop

from redrive import PermanentError, TransientError
from redrive.graphs.processor import DrainControl

__all__ = [
    "DiedError",
    "Execution",
    "Watch",
    "WatchedAttempt",
    "WatchedSaver",
    "is_stored",
    "run_again",
]

# Writes that say of a task how it stands, and are not its result.
_ERROR, _HANDLED = "__error__", "__error_source_node__"
_CONTROL = frozenset({_ERROR, _HANDLED, "__interrupt__", "__resume__"})
_LOOK_S = 0.0005
_MOST_LOOKS = 400


class DiedError(Exception):
    """The process is dead: nothing of it counts any more."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a node or a route, in LangGraph's task, with the tasks around that."""

    tp: str
    task: str
    around: tuple[str, ...]


class Watch:
    """What is seen of one run, over all its attempts.

    Args:
        faults: What its nodes and routes meet.
        stored: Tasks whose results are kept already.
        told: Called with each execution as it begins.
    """

    def __init__(
        self,
        faults: Collection[Fault] = (),
        stored: Collection[str] = (),
        told: Callable[[Execution], None] | None = None,
    ) -> None:
        self.faults = tuple(faults)
        self.stored: set[str] = set(stored)
        self.told = told
        self.complaints: list[str] = []
        self.attempts: list[WatchedAttempt] = []
        self.visits: Counter[str] = Counter()
        self.lock = threading.RLock()

    def begin(self, stop: Stop | None = None) -> WatchedAttempt:
        """Let another attempt begin."""
        self.attempts.append(WatchedAttempt(self, stop))
        return self.attempts[-1]


class WatchedAttempt:
    """Sees each execution and each write of an attempt, and lets its faults happen."""

    def __init__(self, watch: Watch, stop: Stop | None) -> None:
        self._watch = watch
        self._stop = stop
        self._writes = 0
        self.control: DrainControl | None = None
        self.executions: list[Execution] = []
        self.drained = self.dead = self.over = False
        self.failing: set[str] = set()
        """Tasks that fail, or are about to, and those around them."""
        self.failed: list[tuple[Fault, Execution]] = []
        self.at_first_failure: int | None = None
        self.others_may_run_again = False

    def visit(self, tp: str) -> None:
        fault, execution = self._begin(tp)
        if fault is None:
            return
        for _ in self._looks(fault, execution):
            time.sleep(_LOOK_S)
        raise self._fail(fault, execution)

    async def avisit(self, tp: str) -> None:
        fault, execution = self._begin(tp)
        if fault is None:
            return
        for _ in self._looks(fault, execution):
            await asyncio.sleep(_LOOK_S)
        raise self._fail(fault, execution)

    def _begin(self, tp: str) -> tuple[Fault | None, Execution]:
        execution, watch = _execution(tp), self._watch
        with watch.lock:
            if self.dead or self.over:
                raise DiedError
            self._judge(execution)
            self.executions.append(execution)
            if watch.told is not None:
                watch.told(execution)
            if self._is_drained_now() and self.control is not None:
                self.drained = True
                self.control.request_drain()
            watch.visits[tp] += 1
            for fault in watch.faults:
                if fault.tp == tp and (fault.always or fault.nth == watch.visits[tp]):
                    self.failing.update((execution.task, *execution.around))
                    return fault, execution
            return None, execution

    def _judge(self, execution: Execution) -> None:
        tp, watch = execution.tp, self._watch
        if told := run_again(execution, watch.stored):
            watch.complaints.append(told)
        if execution in self.executions:
            watch.complaints.append(f"{tp} ran twice in one attempt")

    def _is_drained_now(self) -> bool:
        stop = self._stop
        return stop is not None and not stop.dies and len(self.executions) == stop.after

    def _looks(self, fault: Fault, execution: Execution) -> Iterator[None]:
        """Go on as long as something else is in flight, and may yet end."""
        watch = self._watch
        if not fault.waits or self.drained:
            self.others_may_run_again = True
            return
        for _ in range(_MOST_LOOKS):
            with watch.lock:
                begun = {task for at in self.executions for task in (at.task, *at.around)}
                if not begun - watch.stored - self.failing - {execution.task}:
                    return
            yield
        self.others_may_run_again = True

    def _fail(self, fault: Fault, execution: Execution) -> BaseException:
        with self._watch.lock:
            self.failed.append((fault, execution))
            if self.at_first_failure is None:
                self.at_first_failure = len(self.executions)
            self.dead = self.dead or fault.kind is Kind.DEATH
        return _error(fault)

    def writes(self) -> None:
        """Let one write begin, unless the process is dead or dies now."""
        with self._watch.lock:
            self._writes += 1
            if self._stop and self._stop.dies and self._writes == self._stop.after:
                self.dead = True
            if self.dead:
                raise DiedError

    def wrote(self, task: str, writes: Sequence[tuple[str, Any]]) -> None:
        """Note that a task's writes are kept."""
        if is_stored({channel for channel, _ in writes}):
            with self._watch.lock:
                self._watch.stored.add(task)


def _error(fault: Fault) -> BaseException:
    told = f"{fault.tp} {fault.kind}"
    exits = (SystemExit(3), KeyboardInterrupt(), GeneratorExit())
    errors: dict[Kind, BaseException] = {
        Kind.TRANSIENT: TransientError(told),
        Kind.PERMANENT: PermanentError(told),
        Kind.UNKNOWN: RuntimeError(told),
        Kind.CANCELLED: asyncio.CancelledError(),
        Kind.EXIT: exits[len(fault.tp) % len(exits)],
        Kind.INTERRUPT: GraphInterrupt(()),
        Kind.DRAINED: GraphDrained(told),
        Kind.DEATH: DiedError(),
    }
    return errors[fault.kind]


def run_again(execution: Execution, stored: Collection[str]) -> str | None:
    """Say so where an execution need not have been, as its result was stored."""
    # LangGraph runs the handlers of a step that was cut short again, finished or not.
    if execution.task not in stored or execution.tp.endswith("!"):
        return None
    return f"{execution.tp} ran again, though its result was stored"


def is_stored(channels: Collection[str]) -> bool:
    """Say of the channels that a task has written to whether its result is among them."""
    if _HANDLED in channels:
        return True
    return _ERROR not in channels and not _CONTROL.issuperset(channels)


def _execution(tp: str) -> Execution:
    namespace = get_config()["configurable"]["checkpoint_ns"]
    tasks = [part.rpartition(":")[2] for part in namespace.split("|") if ":" in part]
    return Execution(tp, tasks[-1], tuple(tasks[:-1]))


class WatchedSaver(BaseCheckpointSaver[Any]):
    """A checkpointer whose writes are seen, and lost once the process is dead."""

    def __init__(self, saver: BaseCheckpointSaver[Any], watch: WatchedAttempt) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._watch = watch

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> WatchedSaver:
        return WatchedSaver(self._saver.with_allowlist(extra_allowlist), self._watch)

    def get_next_version(self, current: Any, channel: None) -> Any:  # noqa: ANN401 - its own type
        return self._saver.get_next_version(current, channel)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._saver.get_tuple(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._saver.aget_tuple(config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        return self._saver.list(config, filter=filter, before=before, limit=limit)

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        return self._saver.alist(config, filter=filter, before=before, limit=limit)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self._watch.writes()
        return self._saver.put(config, checkpoint, metadata, new_versions)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self._watch.writes()
        return await self._saver.aput(config, checkpoint, metadata, new_versions)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._watch.writes()
        self._saver.put_writes(config, writes, task_id, task_path)
        self._watch.wrote(task_id, writes)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self._watch.writes()
        await self._saver.aput_writes(config, writes, task_id, task_path)
        self._watch.wrote(task_id, writes)
