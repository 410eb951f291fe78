"""What workers really did, from what their graphs wrote down: a line `<thread> <node>` for each.

The topics tell how runs ended, and not how often their nodes were executed. A graph that appends
such a line to a file before a node does anything is the witness, whatever becomes of its process.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Execution", "left_out", "read_journal", "tried_too_often", "went_back"]


class Execution(NamedTuple):
    """One execution of a node that was begun."""

    thread: str
    node: str


def read_journal(path: Path) -> list[Execution]:
    """Return what is written there, in its order; nothing without a file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Execution(*line.split()) for line in lines]


def went_back(executions: Sequence[Execution], order: Sequence[str]) -> list[str]:
    """Say which threads executed a node when a later one had been begun already: it was done.

    Args:
        executions: Of graphs whose nodes run one after the other, with checkpoints.
        order: The nodes, in that order.
    """
    by_thread: defaultdict[str, list[str]] = defaultdict(list)
    for thread, node in executions:
        by_thread[thread].append(node)
    return [
        f"again: thread {thread} went back to a node that was done: {', '.join(nodes)}"
        for thread, nodes in by_thread.items()
        if nodes != sorted(nodes, key=order.index)
    ]


def left_out(
    executions: Sequence[Execution], succeeded: Collection[str], nodes: Collection[str]
) -> list[str]:
    """Say which events were called a success although nodes never ran for them. [P16].

    Args:
        executions: Of graphs that run all their nodes; a thread begins with its event's id.
        succeeded: The ids of events that have a success.
        nodes: The nodes.
    """
    ran: defaultdict[str, set[str]] = defaultdict(set)
    for thread, node in executions:
        ran[thread.partition("/")[0]].add(node)
    return [
        f"skipped: event {event_id} is a success, and never ran: {', '.join(sorted(missing))}"
        for event_id in sorted(succeeded)
        if (missing := set(nodes) - ran[event_id])
    ]


def tried_too_often(executions: Sequence[Execution], most: Mapping[str, int]) -> list[str]:
    """Say which nodes were executed more often for one thread than `most` allows, by node."""
    return [
        f"tried: thread {thread} executed {node!r} {count} times, at most {most[node]} are allowed"
        for (thread, node), count in Counter(executions).items()
        if node in most and count > most[node]
    ]
