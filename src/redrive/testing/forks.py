"""Whether a thread was written by two at once, seen in its checkpoints: each follows one other.

Whoever runs a thread goes on from its latest checkpoint. So of two checkpoints that follow the same
one, one was written by a worker that should have known better. What a worker had handed to the
database when it froze may come there once it wakes: that one commit is not seen as wrong by any
guard, and is told here.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["forked_threads"]

_FOLLOW_ONE = """
    SELECT thread_id, checkpoint_ns, parent_checkpoint_id, COUNT(*)
    FROM checkpoints
    GROUP BY thread_id, checkpoint_ns, parent_checkpoint_id
    HAVING COUNT(*) > 1
    ORDER BY thread_id
"""


def forked_threads(database: Path) -> list[str]:
    """Say which threads of an SQLite file of checkpoints fork; nothing without a file.

    Threads that were rewound on purpose, by LangGraph's `update_state` say, fork as well.

    Raises:
        sqlite3.Error: It is no file of checkpoints.
    """
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as opened:
        found = opened.execute(_FOLLOW_ONE).fetchall()
    return [
        f"forked: thread {thread}{f' ({space})' if space else ''} has {count} checkpoints "
        f"{f'that follow {parent}' if parent else 'that follow none'}"
        for thread, space, parent, count in found
    ]
