"""Threads of checkpoints for people and for programs: which there are, what is freed of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from redrive.cli.letters_table import age
from redrive.cli.output import note, print_lines, say, visible
from redrive.graphs.checkpoint_file import Space
from redrive.graphs.retention import StoredThread, ThreadState, state_of
from redrive.units import format_size
from redrive.wiring.freeing import Freed, FreeingPlan, StoredFile

__all__ = [
    "chosen",
    "file_json",
    "freed_json",
    "plan_json",
    "print_deletion",
    "print_freed",
    "print_plan",
    "print_threads",
    "thread_json",
]

_NEVER = datetime.min.replace(tzinfo=UTC)


def chosen(
    threads: Sequence[StoredThread],
    now: datetime,
    *,
    state: ThreadState | None,
    idle: timedelta | None,
) -> list[StoredThread]:
    """Return the threads in a state, and that have not moved for so long; longest first."""
    found = [
        thread
        for thread in threads
        if (state is None or state_of(thread, now) is state)
        and (idle is None or now - _moved(thread) >= idle)
    ]
    return sorted(found, key=lambda thread: (_moved(thread), thread.thread_id))


def print_threads(
    file: StoredFile, some: Sequence[StoredThread], found: Sequence[StoredThread], now: datetime
) -> None:
    """Print a line for each thread of `some`, and the totals of `found`."""
    if some:
        rows = [
            (
                visible(thread.thread_id),
                state_of(thread, now).value,
                _age(thread, now),
                format_size(thread.size_bytes),
                visible(thread.event_id or "-"),
            )
            for thread in some
        ]
        print_lines([("THREAD", "STATE", "AGE", "SIZE", "EVENT"), *rows])
    if found:
        states = _counted(Counter(state_of(thread, now) for thread in found))
        held = format_size(sum(thread.size_bytes for thread in found))
        note(f"{len(some)} of {len(found)} thread(s): {states}; they hold {held}")
    else:
        note("no threads")
    note(f"{file.path} {_space(file.space)}")


def thread_json(thread: StoredThread, now: datetime) -> dict[str, object]:
    """Return a thread for programs; times are ISO 8601."""
    moved_at = thread.moved_at
    return {
        "thread_id": thread.thread_id,
        "state": state_of(thread, now).value,
        "event_id": thread.event_id,
        "workflow": thread.workflow,
        "moved_at": None if moved_at is None else moved_at.isoformat(),
        "age_s": None if moved_at is None else round((now - moved_at).total_seconds(), 3),
        "finished_at": None if thread.finished_at is None else thread.finished_at.isoformat(),
        "checkpoints": thread.checkpoints,
        "size_bytes": thread.size_bytes,
    }


def file_json(file: StoredFile) -> dict[str, object]:
    """Return the file for programs."""
    return {"path": str(file.path), **_space_json(file.space)}


def print_plan(plan: FreeingPlan) -> None:
    """Say what would be deleted."""
    states = f": {_counted(plan.states)}" if plan.threads else ""
    say(
        f"{len(plan.threads)} of {len(plan.file.threads)} thread(s) are not needed{states}; they "
        f"hold {format_size(plan.size_bytes)}"
    )
    if plan.needed:
        note(f"{plan.needed} thread(s) of that age are kept: an open run or a letter needs them")
    if plan.others:
        names = ", ".join(map(repr, plan.others))
        note(
            f"the file is also used by {names}, whose topics were not read: only what their "
            "retention has freed as well goes"
        )
    note(f"{plan.file.path} {_space(plan.file.space)}")


def print_deletion(plan: FreeingPlan) -> None:
    """Name the threads that a person wants to be deleted."""
    for thread in plan.threads:
        whose = "" if thread.workflow is None else f", of workflow {visible(thread.workflow)}"
        size = format_size(thread.size_bytes)
        say(f"{visible(thread.thread_id)}: {state_of(thread, plan.at).value}{whose}, {size}")
    if plan.needed:
        note(
            f"{plan.needed} of them belong to letters, which can then be restarted but not resumed"
        )


def plan_json(plan: FreeingPlan) -> dict[str, object]:
    """Return the plan for programs."""
    return {
        "threads": [thread_json(thread, plan.at) for thread in plan.threads],
        "size_bytes": plan.size_bytes,
        "needed": plan.needed,
        "others": list(plan.others),
        "file": file_json(plan.file),
    }


def print_freed(plan: FreeingPlan, freed: Freed) -> None:
    """Say what was deleted, and how large the file is now."""
    say(f"{freed.threads} thread(s) deleted")
    if freed.threads < len(plan.threads):
        note(f"{len(plan.threads) - freed.threads} were used meanwhile, and are kept")
    note(f"{plan.file.path} {_space(freed.space)}")
    if freed.in_use:
        note(
            "an older version has made this file, and it does not shrink while a worker has it "
            "open: stop its workers, and run this once more"
        )


def freed_json(freed: Freed) -> dict[str, object]:
    """Return what was done for programs, beside the plan."""
    return {
        "deleted": freed.threads,
        "file_now": _space_json(freed.space),
        "in_use": freed.in_use,
        "problem": freed.problem,
    }


def _space(space: Space) -> str:
    return f"takes {format_size(space.size_bytes)}, {format_size(space.free_bytes)} of it free"


def _space_json(space: Space) -> dict[str, object]:
    return {
        "size_bytes": space.size_bytes,
        "free_bytes": space.free_bytes,
        "shrinks": space.shrinks,
    }


def _counted(states: Mapping[ThreadState, int]) -> str:
    return ", ".join(f"{count} {state.value}" for state, count in Counter(states).most_common())


def _age(thread: StoredThread, now: datetime) -> str:
    return "?" if thread.moved_at is None else age(now - thread.moved_at)


def _moved(thread: StoredThread) -> datetime:
    return thread.moved_at or _NEVER
