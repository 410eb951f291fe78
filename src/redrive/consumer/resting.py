"""What a worker does about rate limits: begins rests, says so, and has them remembered.

Which runs a rest holds back is in `state/rests.py` and `run_queue.py`. Belongs to the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import structlog

from redrive.clock import Clock, later
from redrive.consumer.event_run import Run
from redrive.errors import RestExpiredError
from redrive.state.commit_metadata import MAX_RESTS, CommitMetadata, StoredRest
from redrive.state.rests import Rest, Rests

__all__ = ["Resting", "expired_in"]

log = structlog.get_logger("redrive.consumer")


class Resting:
    """Begins and remembers the rests of one worker.

    Args:
        rests: The rests.
        remember: Takes those that go on, to be noted with the next commits; safe from this thread.
        clock: For times: those of rests are monotonic, those of notes are not.
    """

    def __init__(
        self, rests: Rests, *, remember: Callable[[Sequence[StoredRest]], None], clock: Clock
    ) -> None:
        self._rests = rests
        self._remember = remember
        self._clock = clock

    def heard(self, run: Run, *, dependency: str | None, asked_s: float | None) -> None:
        """Take in what a failed attempt says of the service that it met.

        Args:
            run: Whose attempt.
            dependency: The service that the failure names, if it names one.
            asked_s: For how long the service wants to be left alone, in seconds, if it said so.
        """
        workflow_id, now = run.workflow_id, self._clock.monotonic()
        if dependency is not None:
            self._rests.calls(workflow_id, dependency)
        if asked_s is not None:
            asked = Rest(
                workflow_id,
                dependency,
                since=now,
                until=now + asked_s,
                asked_s=asked_s,
                event_id=run.event_id,
            )
            self._begin(asked, now)
        if len(self._rests) and (dependency is not None or asked_s is not None):
            self._metadata(now)

    def recall(self, all_metadata: Iterable[CommitMetadata]) -> None:
        """Go on with rests that another worker has noted, or this one in an earlier life.

        One that has ended meanwhile is not forgotten either: runs may have expired in it.
        """
        now, wall_s = self._clock.monotonic(), self._clock.now().timestamp()
        for metadata in all_metadata:
            # The writer's clock may be ahead of ours: that makes no rest longer.
            written_s = min(float(metadata.at), wall_s)
            for noted in metadata.rests:
                since = now - (wall_s - written_s)
                asked = Rest(
                    noted.workflow_id,
                    noted.dependency,
                    since=since,
                    until=since + noted.until - metadata.at,
                    asked_s=noted.asked_s,
                )
                self._begin(asked, now)
        if len(self._rests):
            self._metadata(now)

    def end(self, ended: Iterable[Rest]) -> None:
        """Log the rests that have ended."""
        for rest in ended:
            rested_s = round(rest.until - rest.since, 3)
            log.info("workflow.rested", **_whose(rest), rested_s=rested_s)

    def blame(self, run: Run) -> None:
        """Note on a run that comes too late in which rest its deadline passed, if in one."""
        if run.deadline is not None and run.deadline <= self._clock.monotonic():
            run.rest = self._rests.at(run.workflow_id, run.deadline)

    def _begin(self, asked: Rest, now: float) -> None:
        rest = self._rests.begin(asked, now=now)
        if rest is not None and rest.until > now:
            log.warning(
                "workflow.rests",
                **_whose(rest),
                for_s=round(rest.until - now, 3),
                asked_s=round(rest.asked_s, 3),
                event_id=rest.event_id,
            )

    def _metadata(self, now: float) -> None:
        wall_s = self._clock.now().timestamp()
        self._remember(
            [
                StoredRest(
                    rest.workflow_id,
                    rest.dependency,
                    until=math.ceil(wall_s + rest.until - now),
                    asked_s=math.ceil(rest.asked_s),
                )
                for rest in self._rests.going_on(most=MAX_RESTS)
            ]
        )


def expired_in(rest: Rest, clock: Clock) -> RestExpiredError:
    """Return why a run ends whose deadline passed in this rest."""
    return RestExpiredError(
        dependency=rest.dependency,
        workflow_id=rest.workflow_id,
        event_id=rest.event_id,
        asked_s=rest.asked_s,
        until=later(clock.now(), rest.until - clock.monotonic()),
    )


def _whose(rest: Rest) -> dict[str, str | None]:
    return {"workflow_id": rest.workflow_id, "dependency": rest.dependency}
