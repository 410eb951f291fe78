"""Rests: what a rate limit holds back beyond the run that met it, whom, and until when.

A rest is a dependency's where the failure named one, else its workflow's alone. A workflow rests
with each dependency that failures of its own runs have named: no run can know before it starts whom
it will call. Pure bookkeeping; times are the caller's monotonic seconds.

A rest that had to be cut short ends in the dark: the service wants longer. So one run goes first,
shortly before its end. If it is refused, a new rest begins before the others have started; each of
them would wait as long as the service said, and take up a place among the unfinished events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

__all__ = ["Rest", "Rests"]

Value = TypeVar("Value")

MOST_WORKFLOWS = 1_024
"""Workflows of which it is known whom they call; those that failed last."""
MOST_DEPENDENCIES = 8
"""Dependencies of one workflow: those that were named last."""
MOST_RESTS = 1_024
_AHEAD_S = 10.0
_MOST_AHEAD = 0.1


@dataclass(frozen=True, slots=True)
class Rest:
    """A time in which nothing starts that would meet the same limit.

    Attributes:
        workflow_id: The workflow whose run met the limit.
        dependency: The service that asked for the wait, or None where the failure named none.
        since: When it was asked for.
        until: When the rest ends. The run that met it may have to wait longer.
        asked_s: For how long the service wants to be left alone, in seconds.
        event_id: The event whose run met it; None where that is not known any more.
        first_at: When one run may go first; None if none may, or that moment has come.
        lets_one_go: Whether it has come, and none has gone yet.
    """

    workflow_id: str
    dependency: str | None
    since: float
    until: float
    asked_s: float
    event_id: str | None = None
    first_at: float | None = None
    lets_one_go: bool = False

    @property
    def key(self) -> str:
        """What it is a rest of, as one word: equal for all whom it concerns."""
        if self.dependency is None:
            return _of_workflow(self.workflow_id)
        return _of_dependency(self.dependency)


class Rests:
    """The rests of one worker.

    Belongs to the event loop; `of` may be called from any thread.

    Args:
        longest_s: No rest is longer than this from the moment at which it is asked for, in seconds.
    """

    def __init__(self, *, longest_s: float) -> None:
        self._longest_s = longest_s
        self._ahead_s = min(_AHEAD_S, longest_s * _MOST_AHEAD)
        self._calls: dict[str, tuple[str, ...]] = {}
        self._now: dict[str, Rest] = {}
        self._past: dict[str, Rest] = {}

    def __len__(self) -> int:
        """Return how many rests there are now."""
        return len(self._now)

    def calls(self, workflow_id: str, dependency: str) -> None:
        """Take note that a failure of the workflow named this dependency."""
        known = self._calls.get(workflow_id, ())
        if known[-1:] == (dependency,):
            return
        # A tuple, and put in as a whole: other threads read it meanwhile.
        others = tuple(name for name in known if name != dependency)
        self._calls.pop(workflow_id, None)
        self._calls[workflow_id] = (*others, dependency)[-MOST_DEPENDENCIES:]
        _bound(self._calls, MOST_WORKFLOWS)

    def begin(self, asked: Rest, *, now: float | None = None) -> Rest | None:
        """Let a rest begin, as long as it may be; one that goes on is never made shorter.

        Args:
            asked: What was asked for.
            now: The time, where it was asked for earlier.

        Returns:
            The rest, if none of this dependency or workflow was going on; else None.
        """
        if asked.dependency is not None:
            self.calls(asked.workflow_id, asked.dependency)
        until = min(asked.until, (asked.since if now is None else now) + self._longest_s)
        going_on = self._now.get(asked.key)
        if until <= asked.since or (going_on is not None and until <= going_on.until):
            return None
        since = asked.since if going_on is None else going_on.since
        first_at = until - self._ahead_s if asked.asked_s > self._longest_s else None
        rest = replace(asked, since=since, until=until, first_at=first_at)
        self._now[rest.key] = rest
        if len(self._now) > MOST_RESTS:
            # Ended, not dropped: what waits for it is let go as of any other.
            first = min(self._now.values(), key=_end)
            self._now[first.key] = replace(first, until=asked.since)
        return rest if going_on is None else None

    def end(self, now: float) -> list[Rest]:
        """Return the rests that have ended, each once."""
        if not self._now:
            return []
        ended = [rest for rest in self._now.values() if rest.until <= now]
        for rest in ended:
            del self._now[rest.key]
            self._past.pop(rest.key, None)
            self._past[rest.key] = rest
            _bound(self._past, MOST_RESTS)
        return ended

    def open(self, now: float) -> list[Rest]:
        """Return the rests that let one run go first from now on, each once."""
        found = []
        for key, rest in self._now.items():
            if rest.first_at is not None and rest.first_at <= now:
                self._now[key] = replace(rest, first_at=None, lets_one_go=True)
                found.append(rest)
        return found

    @property
    def next_change(self) -> float | None:
        """When the first of them ends, or lets one run go; None when there is none."""
        changes = ((rest.until, rest.first_at) for rest in self._now.values())
        return min((at for both in changes for at in both if at is not None), default=None)

    def of(self, workflow_id: str) -> Rest | None:
        """Return the rest that holds a workflow back for the longest, or None."""
        return max(self._of(workflow_id), key=_end, default=None)

    def holds(self, workflow_id: str) -> Rest | None:
        """Return the same, or None too where all its rests let one run go first."""
        rests = self._of(workflow_id)
        return None if all(rest.lets_one_go for rest in rests) else max(rests, key=_end)

    def started(self, workflow_id: str) -> None:
        """Take note that a run starts, the one that may go first if the workflow rests."""
        for rest in self._of(workflow_id):
            self._now[rest.key] = replace(rest, lets_one_go=False)

    def at(self, workflow_id: str, moment: float) -> Rest | None:
        """Return the rest in which a workflow was at that moment, also when it is over by now."""
        rests = [
            rest
            for key in self._keys(workflow_id)
            for rest in (self._now.get(key), self._past.get(key))
            if rest is not None and rest.since <= moment <= rest.until
        ]
        return max(rests, key=_end, default=None)

    def going_on(self, *, most: int) -> list[Rest]:
        """Return the `most` that last longest, each once for every workflow that it concerns."""
        found = []
        for rest in sorted(self._now.values(), key=_end, reverse=True)[:most]:
            found.append(rest)
            found += [
                replace(rest, workflow_id=workflow_id, event_id=None)
                for workflow_id, dependencies in self._calls.items()
                if rest.dependency in dependencies and workflow_id != rest.workflow_id
            ]
        return found

    def _of(self, workflow_id: str) -> list[Rest]:
        if not self._now:
            return []
        return list(filter(None, map(self._now.get, self._keys(workflow_id))))

    def _keys(self, workflow_id: str) -> list[str]:
        dependencies = self._calls.get(workflow_id, ())
        return [_of_workflow(workflow_id), *map(_of_dependency, dependencies)]


def _end(rest: Rest) -> float:
    return rest.until


def _of_workflow(workflow_id: str) -> str:
    return f"workflow {workflow_id}"


def _of_dependency(dependency: str) -> str:
    return f"dependency {dependency}"


def _bound(table: dict[str, Value], most: int) -> None:
    while len(table) > most:
        del table[next(iter(table))]
