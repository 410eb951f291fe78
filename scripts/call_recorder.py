"""Which functions of a package are called while something is done, on every thread."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

__all__ = ["CallRecorder", "Crossed"]


@dataclass(frozen=True, slots=True)
class Crossed:
    """What was called, in the order of each thread."""

    functions: int
    files: int
    changes_of_file: int

    def __str__(self) -> str:
        """Tell it in one line."""
        return (
            f"{self.functions} functions in {self.files} files, "
            f"{self.changes_of_file} changes of file"
        )


@dataclass
class CallRecorder:
    """Notes calls of functions below a folder, on this thread and on those that start later."""

    folder: Path
    without: tuple[str, ...] = ()
    calls: dict[int, list[CodeType]] = field(default_factory=lambda: defaultdict(list))
    is_on: bool = False
    _ours: dict[CodeType, bool] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See all calls from here on; noted are those while `noting` holds."""
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not self.is_on:
            return
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = self._is_ours(code)
        if ours:
            self.calls[threading.get_ident()].append(code)

    def _is_ours(self, code: CodeType) -> bool:
        # Comprehensions and bodies of classes and modules are no functions.
        if code.co_name.startswith("<") and code.co_name != "<lambda>":
            return False
        file = Path(code.co_filename)
        if not file.is_relative_to(self.folder):
            return False
        return file.relative_to(self.folder).parts[0] not in self.without

    def counts(self) -> Counter[CodeType]:
        """Return how often each function was called."""
        return Counter(code for calls in self.calls.values() for code in calls)

    def crossed(
        self, of: Callable[[CodeType], bool] = lambda _: True, *, times: int = 1
    ) -> Crossed:
        """Sum up the calls of some functions, of something that was done so many times."""
        kept = {thread: [c for c in calls if of(c)] for thread, calls in self.calls.items()}
        codes = {code for calls in kept.values() for code in calls}
        changes = sum(
            before.co_filename != after.co_filename
            for calls in kept.values()
            for before, after in pairwise(calls)
        )
        return Crossed(
            functions=len(codes),
            files=len({code.co_filename for code in codes}),
            changes_of_file=round(changes / times),
        )

    def take(self) -> CallRecorder:
        """Return what was noted, and begin anew."""
        taken = CallRecorder(self.folder, calls={**self.calls})
        self.calls = defaultdict(list)
        return taken
