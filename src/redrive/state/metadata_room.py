"""How much a commit's note may hold: brokers limit what stands beside an offset.

The limit is `offset.metadata.max.bytes` of the broker. As it is usually, nothing is short of room;
where it is small, fewer events of a partition may start, and in a narrower window, so that what is
finished and what has started can always be noted. [P3, P11]
"""

from __future__ import annotations

from redrive.state.commit_metadata import (
    MAX_METADATA_CHARS,
    MIN_METADATA_CHARS,
    entries_within,
    window_within,
)

__all__ = ["MetadataRoom"]

_SHRINK_NUMERATOR, _SHRINK_DENOMINATOR = 3, 4


class MetadataRoom:
    """The room of one worker's notes, as far as it is known; shared by all of its partitions.

    Changed by the poll thread only; may be read from any thread.

    Args:
        limit_chars: How many characters the broker takes; None where it does not say.
    """

    def __init__(self, limit_chars: int | None = None) -> None:
        self.chars = (
            MAX_METADATA_CHARS if limit_chars is None else min(limit_chars, MAX_METADATA_CHARS)
        )
        """How long a note may be."""
        self.marks_chars = self.chars
        """How long marks may make it: whatever else it tells of is more important."""
        self._taken = 0

    @property
    def entries(self) -> int:
        """How many unfinished offsets of a partition may have started, or have a history."""
        return entries_within(self.chars)

    @property
    def window(self) -> int:
        """In how many offsets past the committed one events may start."""
        return window_within(self.chars)

    def took(self, chars: int) -> None:
        """Learn from a note that the broker took."""
        self._taken = max(self._taken, chars)

    def refused(self, chars: int) -> bool:
        """Have shorter notes from now on; False where they cannot be shorter.

        Args:
            chars: The longest note that the broker refused.
        """
        if chars <= self._taken:
            # Another broker, or another limit than before.
            self._taken = 0
        shorter = chars * _SHRINK_NUMERATOR // _SHRINK_DENOMINATOR
        shorter = max(shorter, self._taken, MIN_METADATA_CHARS)
        if chars <= self.marks_chars:
            # Marks may have made it so long: nothing else is given up for them.
            self.marks_chars = min(shorter, chars - 1)
            return True
        if shorter < self.chars:
            self.chars = shorter
            return True
        # A commit that was under way before may be refused after it.
        return chars > self.chars
