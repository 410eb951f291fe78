"""Which offsets of a partition the group has finished, by what it has committed."""

from __future__ import annotations

from dataclasses import dataclass

from redrive.kafka.log import Committed
from redrive.state.commit_metadata import commit_metadata_of

__all__ = ["FinishedOffsets"]


@dataclass(frozen=True, slots=True)
class FinishedOffsets:
    """What one commit says.

    Attributes:
        offset: All before it is finished; None where nothing was committed.
        past: A bitmap: bit i stands for `offset + i`.
        readable: Whether the commit says what is finished past its offset.
    """

    offset: int | None
    past: int = 0
    readable: bool = True

    @classmethod
    def of(cls, committed: Committed) -> FinishedOffsets:
        """Read a commit."""
        note = commit_metadata_of(committed.metadata, offset=committed.offset)
        if note is not None:
            return cls(committed.offset, note.finished)
        return cls(committed.offset, readable=committed.offset is None)

    def has(self, offset: int) -> bool:
        """Whether the event at `offset` has ended."""
        if self.offset is None:
            return False
        ahead = offset - self.offset
        return ahead < 0 or bool(self.past >> ahead & 1)

    def leaves_open(self, offset: int) -> bool:
        """Whether it surely has not."""
        return not self.has(offset) and self.readable
