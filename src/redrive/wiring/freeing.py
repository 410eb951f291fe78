"""Frees checkpoints at a person's request: reads the file, asks the topics, then deletes.

In this order: what happens to a thread after it was read from the file keeps it from being deleted.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from redrive.clock import SYSTEM, Clock
from redrive.errors import SettingsError
from redrive.graphs.checkpoint_file import (
    Deployment,
    Space,
    compact,
    deployments,
    look_at,
    read_only,
    space_of,
    stored_threads,
)
from redrive.graphs.checkpoint_store import Checkpoints
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.graphs.retention import (
    Needed,
    StoredThread,
    ThreadState,
    Wish,
    free_at,
    is_free,
    longest,
    state_of,
)
from redrive.redriving.needed import read_needed
from redrive.settings import Settings
from redrive.wiring.topic_retention import deployment_name

__all__ = [
    "Freed",
    "FreeingPlan",
    "StoredFile",
    "free",
    "plan_deletion",
    "plan_freeing",
    "read_file",
]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What lies in the file of checkpoints, read without disturbing its workers."""

    path: Path
    space: Space
    threads: tuple[StoredThread, ...]
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True)
class FreeingPlan:
    """What would be deleted.

    Attributes:
        file: As it was read.
        at: When.
        threads: What nothing needs.
        needed: How many threads of that age are kept, since the topics need them; or, where these
            are deleted on demand, how many of them letters need.
        others: Deployments beside ours that use the file: what time has not freed of any of them
            is kept, as their topics were not read.
        in_use: Those of the threads that an open run works on; always none of what is not needed.
    """

    file: StoredFile
    at: datetime
    threads: tuple[StoredThread, ...]
    needed: int
    others: tuple[str, ...]
    in_use: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What the threads hold."""
        return sum(thread.size_bytes for thread in self.threads)

    @property
    def states(self) -> Counter[ThreadState]:
        """How many of them are in which state."""
        return Counter(state_of(thread, self.at) for thread in self.threads)


@dataclass(frozen=True, slots=True)
class Freed:
    """What was deleted: `threads`, and how large the file is now.

    `in_use` is set when the file could not be made smaller, since a worker has it open; `problem`
    when that failed, and says why.
    """

    threads: int
    space: Space
    in_use: bool = False
    problem: str | None = None


def read_file(settings: CheckpointSettings) -> StoredFile | None:
    """Return what lies in the file; None where none is there, or none are kept.

    Raises:
        SettingsError: It cannot be read, or holds no checkpoints.
    """
    seen = look_at(settings)
    if seen is None or not seen.there:
        return None
    with closing(read_only(seen.path)) as connection:
        return StoredFile(
            seen.path,
            space_of(connection),
            tuple(stored_threads(connection)),
            tuple(deployments(connection)),
        )


def plan_freeing(
    settings: Settings, file: StoredFile, wish: Wish, *, clock: Clock = SYSTEM
) -> FreeingPlan:
    """Choose what is deleted; asks the topics about what the file alone does not tell.

    Raises:
        KafkaUnavailableError: The topics could not be read.
        SettingsError: The file belongs to the runs of another deployment, or a topic is not there.
    """
    now = clock.now()
    asked = [one for one in file.threads if is_free(one, now, wish=wish, needed=Needed())]
    if not asked:
        return FreeingPlan(file, now, (), 0, ())
    names = frozenset(one.thread_id for one in asked)
    needed, cluster = read_needed(
        settings.kafka,
        names,
        scope=settings.threads.scope,
        verifier=settings.security.trust().verifier,
        clock=clock,
    )
    others = _others(settings, file, cluster)
    threads = [one for one in asked if is_free(one, now, wish=wish, needed=needed)]
    count = len(asked) - len(threads)
    if others:
        threads = _freed_for_all(threads, now, file.deployments, settings, wish)
    return FreeingPlan(file, now, tuple(threads), count, tuple(one.name for one in others))


def plan_deletion(
    settings: Settings,
    file: StoredFile,
    names: Collection[str],
    *,
    force: bool = False,
    clock: Clock = SYSTEM,
) -> FreeingPlan:
    """Plan the deletion of these threads, whatever their age. A letter keeps none of them.

    Args:
        settings: All settings.
        file: As it was read.
        names: The threads; what is not in the file is passed by.
        force: Also what an open run may need, and without asking the topics.
        clock: Where time comes from.

    Raises:
        KafkaUnavailableError: The topics could not be read.
        SettingsError: Others use the file, and their topics cannot be read with these settings.
    """
    now = clock.now()
    wanted = frozenset(names)
    threads = tuple(one for one in file.threads if one.thread_id in wanted)
    if force or not threads:
        return FreeingPlan(file, now, threads, 0, ())
    needed, cluster = read_needed(settings.kafka, wanted, scope=settings.threads.scope, clock=clock)
    if others := _others(settings, file, cluster):
        known = ", ".join(repr(one.name) for one in others)
        raise SettingsError(
            f"{str(file.path)!r} is also used by {known}, and what their open runs need is not "
            "known here: stop their workers and give --force"
        )
    running = {one.thread_id for one in threads if state_of(one, now) is ThreadState.RUNNING}
    in_use = tuple(sorted(needed.runs | running))
    return FreeingPlan(file, now, threads, len(needed.letters), (), in_use)


async def free(settings: CheckpointSettings, plan: FreeingPlan, *, clock: Clock = SYSTEM) -> Freed:
    """Delete the threads of the plan, but those that have changed since, and shrink the file.

    A file that an older version has made is rewritten for that once, if no worker has it open.

    Raises:
        SettingsError: The file cannot be written.
        sqlite3.Error: It could not be written to the end; what was deleted stays so.
    """
    async with Checkpoints(settings, clock=clock) as checkpoints:
        deleted = await checkpoints.delete(plan.threads)
        await checkpoints.shrink(wholly=True)
    in_use, problem = False, None
    if not plan.file.space.shrinks:
        try:
            in_use = not compact(plan.file.path)
        except sqlite3.Error as error:
            problem = str(error)
    with closing(read_only(plan.file.path)) as connection:
        return Freed(deleted, space_of(connection), in_use, problem)


def _others(settings: Settings, file: StoredFile, cluster: str | None) -> list[Deployment]:
    own = deployment_name(settings.kafka, cluster)
    if own not in {one.name for one in file.deployments}:
        known = ", ".join(repr(one.name) for one in file.deployments) or "of no worker so far"
        raise SettingsError(
            f"checkpoints.url: no worker of {own!r} (cluster/group/events topic/letters topic) has "
            f"used {str(file.path)!r}, so these topics cannot tell which threads are needed; it is "
            f"used by: {known}. Name the workers' settings, or start one of their workers first"
        )
    return [one for one in file.deployments if one.name != own]


def _freed_for_all(
    threads: Sequence[StoredThread],
    now: datetime,
    all_deployments: Sequence[Deployment],
    settings: Settings,
    wish: Wish,
) -> list[StoredThread]:
    """Return those that time has freed too, as only some of the topics were read."""
    kept = longest(one.kept for one in all_deployments)
    if kept is None:
        return []
    ttl = min(settings.checkpoints.ttl, wish.idle)
    return [
        thread
        for thread in threads
        if (at := free_at(thread, now, ttl=ttl, kept=kept)) is not None and at <= now
    ]
