"""How far the group is with an event, as its commit says."""

from __future__ import annotations

import pytest

from redrive.kafka.log import Committed
from redrive.redriving.run_stories import RecordProgress, RunStatus, progress_of
from redrive.state.commit_metadata import CommitMetadata, OffsetEntry, encode

NOTE = encode(
    CommitMetadata(
        incarnation=1,
        settle=7,
        finished=0b10,
        reserved=4,
        entries={0: OffsetEntry(failed=2), 3: OffsetEntry(failed=1, crashes=1, started=True)},
    )
)


@pytest.mark.parametrize(
    ("offset", "progress"),
    [
        (9, RecordProgress(RunStatus.ENDED)),
        (10, RecordProgress(RunStatus.WAITING, failed=2, crashes=0)),
        (11, RecordProgress(RunStatus.ENDED)),
        (12, RecordProgress(RunStatus.MAY_BE_RUNNING, failed=0, crashes=0)),
        (13, RecordProgress(RunStatus.MAY_BE_RUNNING, failed=1, crashes=1)),
        (14, RecordProgress(RunStatus.WAITING, failed=0, crashes=0)),
        (10_000, RecordProgress(RunStatus.WAITING, failed=0, crashes=0)),
    ],
)
def test_the_commit_says_how_far_the_group_is(offset: int, progress: RecordProgress) -> None:
    assert progress_of(offset, Committed(10, NOTE)) == progress


@pytest.mark.parametrize("metadata", [None, "", "someone else's"])
def test_without_a_note_of_ours_attempts_are_not_guessed(metadata: str | None) -> None:
    assert progress_of(10, Committed(10, metadata)) == RecordProgress(RunStatus.WAITING)
    assert progress_of(9, Committed(10, metadata)) == RecordProgress(RunStatus.ENDED)


def test_where_nothing_is_committed_everything_waits() -> None:
    assert progress_of(0, Committed(None, None)) == RecordProgress(RunStatus.WAITING)
