"""Outcomes that wait apart for what stands in their way, so that the others go on without them.

```text
 line ── batch ──▶ stored
   ▲       │ no leader, refused, or not confirmed while others were
   │       ▼
   │     apart, behind an obstacle: a partition, a topic, or the outcome itself
   │       │ due: the first that waits there is tried aside
   └───────┤ passed: all that wait behind it
           └ failed: due again, later
```

What comes for a known obstacle goes there at once, and costs nobody anything. The trial is not the
batch: no offset moves here, and an outcome that waits keeps its own unfinished. Nothing may wait
here for ever once its obstacle is gone: each is tried again within `LONGEST_WAIT_S`. Belongs to the
poll thread. [P1, P7]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaError

from redrive.clock import Clock
from redrive.consumer.outcome import Outcome, PolledRecord
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.retrying import advice
from redrive.kafka.sending import target

__all__ = ["Apart", "Obstacle", "ObstacleCause", "ObstacleStatus"]

log = structlog.get_logger("redrive.consumer")

LONGEST_WAIT_S = 10.0
"""How long after a trial the next one follows at most, of a partition or a topic."""
LONGEST_WAIT_ALONE_S = 60.0
"""The same of an outcome by itself: there may be thousands."""
MAX_TRIED = 100
MAX_TRIED_BYTES = 2**20
_FIRST_WAIT_S = 1.0
_SAME_S = 60.0
_TELL_EVERY_S = 60.0
_UNDECIDED = 2


class ObstacleCause(StrEnum):
    """Why an obstacle is one."""

    NO_LEADER = "no_leader"
    TOPIC_REFUSED = "topic_refused"
    RECORD_REFUSED = "record_refused"
    NOT_CONFIRMED = "not_confirmed"


class Obstacle(NamedTuple):
    """What outcomes wait for: a topic, one of its partitions, or that one of them is taken."""

    topic: str
    partition: int | None = None
    outcome: int | None = None
    """The id of an outcome that waits by itself."""

    @property
    def is_partition(self) -> bool:
        """Whether it is a partition that others share."""
        return self.partition is not None and self.outcome is None


@dataclass(frozen=True, slots=True)
class ObstacleStatus:
    """How an obstacle stands; for other threads.

    Args:
        obstacle: Which.
        cause: Why it is one.
        since: Since when, in monotonic seconds.
        waiting: How many outcomes wait for it.
    """

    obstacle: Obstacle
    cause: ObstacleCause
    since: float
    waiting: int


@dataclass(slots=True)
class _Line:
    cause: ObstacleCause
    error: str
    since: float
    due: float
    told_at: float
    strikes: int = 0
    undecided: int = 0
    waiting: deque[Outcome] = field(default_factory=deque)


class Apart:
    """The obstacles of one worker, and the outcomes that wait for each.

    Args:
        holds: Whether the assignment under which an event came is the one that holds now.
        keeps: The same, or it may come to hold again.
        clock: For the times of trials.
    """

    def __init__(
        self,
        *,
        holds: Callable[[PolledRecord], bool],
        keeps: Callable[[PolledRecord], bool],
        clock: Clock,
    ) -> None:
        self._holds = holds
        self._keeps = keeps
        self._clock = clock
        self._lines: dict[Obstacle, _Line] = {}
        # Of outcomes that wait for one topic after the other: which of them are well.
        self._tried: dict[int, set[str]] = {}
        # An obstacle that is back at once goes on where it was, else each return would cost others.
        self._passed: dict[Obstacle, tuple[float, int]] = {}
        self._partitions: dict[str, int] = {}
        self._tell_at = 0.0
        self.status: tuple[ObstacleStatus, ...] = ()
        """Replaced as a whole: any thread may read it."""

    def __len__(self) -> int:
        return sum(len(line.waiting) for line in tuple(self._lines.values()))

    def learn(self, partitions: Mapping[str, int]) -> None:
        """Take in how many partitions topics have."""
        self._partitions.update(partitions)

    def hold(
        self, outcome: Outcome, obstacle: Obstacle, cause: ObstacleCause, error: object
    ) -> None:
        """Let an outcome wait for an obstacle, which may be a new one."""
        line = self._lines.get(obstacle)
        if line is None:
            line = self._lines[obstacle] = self._begin(obstacle, cause, error)
        line.waiting.append(outcome)

    def takes(self, outcome: Outcome) -> bool:
        """Let an outcome wait that a known obstacle stands in the way of; say whether one does."""
        if not self._lines:
            return False
        for record in outcome.records:
            for obstacle in self._ways(record):
                line = self._lines.get(obstacle)
                if line is not None:
                    line.waiting.append(outcome)
                    return True
        return False

    def due(self) -> list[tuple[Obstacle, Outcome]]:
        """Return what to try next: the first outcome of each obstacle that is due.

        Partitions are tried together: many may be without a leader, and one after the other would
        keep the last of them for too long. A topic, or an outcome by itself, is tried alone: it
        may take the others along.
        """
        now, found, size = self._clock.monotonic(), list[tuple[Obstacle, Outcome]](), 0
        ready = sorted(
            (line.due, number, obstacle)
            for number, (obstacle, line) in enumerate(self._lines.items())
            if line.due <= now
        )
        for _, _, obstacle in ready:
            outcome = self._first(obstacle)
            if outcome is None:
                continue
            if not found and not obstacle.is_partition:
                return [(obstacle, outcome)]
            size += outcome.size_bytes
            if not obstacle.is_partition or (found and size > MAX_TRIED_BYTES):
                continue
            found.append((obstacle, outcome))
            if len(found) == MAX_TRIED:
                break
        return found

    def records(self, obstacle: Obstacle, outcome: Outcome) -> tuple[ProducerRecord, ...]:
        """Return the records of an outcome that an obstacle stands in the way of."""
        if obstacle.outcome is not None:
            return tuple(r for r in outcome.records if r.topic == obstacle.topic)
        return tuple(r for r in outcome.records if obstacle in self._ways(r)) or outcome.records

    def passed(self, obstacle: Obstacle) -> list[Outcome]:
        """Return all that waited for an obstacle that is gone, in order."""
        line = self._lines.pop(obstacle, None)
        if line is None:
            return []
        now = self._clock.monotonic()
        self._passed = {o: at for o, at in self._passed.items() if now - at[0] < _SAME_S}
        self._passed[obstacle] = (now, line.strikes)
        log.info(
            "settle.outcomes_go_on",
            **_named(obstacle),
            cause=line.cause,
            outcomes=len(line.waiting),
            waited_s=round(now - line.since, 1),
        )
        return [
            outcome for outcome in line.waiting if not self._waits_for_more(outcome, obstacle, line)
        ]

    def _waits_for_more(self, outcome: Outcome, passed: Obstacle, line: _Line) -> bool:
        """Let an outcome wait for its next topic; say whether it does.

        A transaction does not tell which of its topics has refused it: until each has been tried by
        itself, the outcome would break everybody's batch again. [P7]
        """
        if (
            line.cause is not ObstacleCause.TOPIC_REFUSED
            or passed.is_partition
            or passed.outcome is not None
        ):
            return False
        tried = self._tried.setdefault(id(outcome), set())
        tried.add(passed.topic)
        topic = next((r.topic for r in outcome.records if r.topic not in tried), None)
        if topic is None:
            del self._tried[id(outcome)]
            return False
        self.hold(outcome, Obstacle(topic), line.cause, line.error)
        return True

    def replace(self, obstacle: Obstacle, outcome: Outcome) -> None:
        """Let another outcome take the place of the one that waits by itself."""
        self._lines[obstacle].waiting = deque([outcome])

    def failed(self, obstacle: Obstacle, cause: ObstacleCause, error: object) -> None:
        """Let a trial that failed be followed by another one, later."""
        line = self._lines.get(obstacle)
        if line is not None:
            line.undecided = 0
            line.cause, line.error = cause, str(error)
            self._wait_longer(obstacle, line)

    def undecided(self, obstacle: Obstacle, error: object) -> bool:
        """Take in that a trial could not be made; say whether to go on without one.

        Then the batch itself decides. Else who may hold no trial would wait for ever.
        """
        line = self._lines.get(obstacle)
        if line is None:
            return False
        line.undecided += 1
        log.warning("settle.trial_failed", **_named(obstacle), error=str(error))
        self._wait_longer(obstacle, line)
        return line.undecided >= _UNDECIDED

    def look(self) -> None:
        """Tell of obstacles that last, once a minute; show how all of them stand."""
        now = self._clock.monotonic()
        if now < self._tell_at and len(self.status) == len(self._lines):
            return
        self._tell_at = now + _FIRST_WAIT_S
        self.status = tuple(
            ObstacleStatus(obstacle, line.cause, line.since, len(line.waiting))
            for obstacle, line in self._lines.items()
        )
        for obstacle, line in self._lines.items():
            if now - line.told_at >= _TELL_EVERY_S:
                line.told_at = now
                log.warning(
                    "settle.outcomes_still_wait",
                    **_named(obstacle),
                    cause=line.cause,
                    error=line.error,
                    outcomes=len(line.waiting),
                    since_s=round(now - line.since, 1),
                )

    def _begin(self, obstacle: Obstacle, cause: ObstacleCause, error: object) -> _Line:
        now = self._clock.monotonic()
        before, strikes = self._passed.pop(obstacle, (-_SAME_S, 0))
        line = _Line(cause, str(error), since=now, due=now, told_at=now)
        if now - before < _SAME_S:
            line.strikes = strikes
            self._wait_longer(obstacle, line)
        do = advice(error) if isinstance(error, KafkaError) else None
        log.warning(
            "settle.outcomes_wait", **_named(obstacle), cause=cause, error=str(error), advice=do
        )
        return line

    def _wait_longer(self, obstacle: Obstacle, line: _Line) -> None:
        longest_s = LONGEST_WAIT_S if obstacle.outcome is None else LONGEST_WAIT_ALONE_S
        wait_s = min(_FIRST_WAIT_S * 2.0 ** min(line.strikes, 10), longest_s)
        line.strikes += 1
        line.due = self._clock.monotonic() + wait_s

    def _first(self, obstacle: Obstacle) -> Outcome | None:
        """Return the first that may be settled; drop what belongs to the next owner. [P2]."""
        line = self._lines[obstacle]
        while line.waiting and not self._keeps(line.waiting[0].polled):
            line.waiting.popleft()
        if not line.waiting:
            del self._lines[obstacle]
            return None
        return next((each for each in line.waiting if self._holds(each.polled)), None)

    def _ways(self, record: ProducerRecord) -> tuple[Obstacle, ...]:
        place = target(record, self._partitions)
        whole = Obstacle(record.topic)
        return (whole,) if place is None else (whole, Obstacle(*place))


def _named(obstacle: Obstacle) -> dict[str, object]:
    return {"topic": obstacle.topic, "partition": obstacle.partition}
