"""What several unit tests ask for."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from redrive.graphs import Checkpoints, CheckpointSettings


@pytest.fixture
async def checkpoints(tmp_path: Path) -> AsyncIterator[Checkpoints]:
    """Checkpoints in a file, opened."""
    async with Checkpoints(CheckpointSettings(url=f"sqlite:///{tmp_path}/checkpoints.db")) as found:
        yield found


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a sync node waits for; opened at the end, so that no thread outlives the test."""
    opened = threading.Event()
    yield opened
    opened.set()
