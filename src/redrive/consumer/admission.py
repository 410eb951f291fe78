"""Which events may run: those that bear a signature, where one is required; see `signatures`.

Belongs to the event loop. What an event says of itself goes into no log line and no label here: it
may be anybody's.
"""

from __future__ import annotations

import structlog

from redrive.consumer.outcome_builder import GivenUp
from redrive.errors import NotAllowedError, PermanentError, UnsignedError
from redrive.events import WorkflowEvent
from redrive.kafka.log import ConsumerRecord
from redrive.kafka.signed import judged
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.signatures import Require, Signed, Subject, Unsigned, Verifier
from redrive.telemetry.instruments import Counter
from redrive.telemetry.metrics import EVENT_SIGNATURES
from redrive.telemetry.repeats import REPEATS, Repeats

__all__ = ["Admission"]

log = structlog.get_logger("redrive.consumer")

_NO_KEY = ""


class Admission:
    """Judges events as they come in.

    Args:
        verifier: Knows the keys, and what is required.
        counted: Counts what was judged.
        repeats: Bounds what is logged, whatever comes.
    """

    def __init__(
        self,
        verifier: Verifier | None = None,
        *,
        counted: Counter | None = None,
        repeats: Repeats = REPEATS,
    ) -> None:
        self._verifier = verifier or Verifier()
        self._counted = counted or Counter(EVENT_SIGNATURES)
        self._repeats = repeats

    def refusal(self, record: ConsumerRecord, event: WorkflowEvent) -> GivenUp | None:
        """Return why an event must not run; None where it may."""
        if self._verifier.require is Require.OFF:
            return None
        error, what, key = self._look(record, event)
        self._counted.add(what, key)
        if error is None:
            return None
        tp, refuses = record.tp, self._verifier.refuses
        if (times := self._repeats.to_log("event.not_signed", what, key)) is not None:
            log.warning(
                "event.not_signed",
                topic=tp.topic,
                partition=tp.partition,
                offset=record.offset,
                judged=what,
                key=key or None,
                runs=not refuses,
                **times,
            )
        if not refuses:
            return None
        reason = Reason.NOT_ALLOWED if isinstance(error, NotAllowedError) else Reason.UNSIGNED
        return GivenUp(error, Failure(Kind.PERMANENT), reason)

    def refuses_now(self, record: ConsumerRecord, event: WorkflowEvent) -> bool:
        """Say whether an event that is read again must not run; nothing is counted or logged."""
        return self._verifier.refuses and self._look(record, event)[0] is not None

    def _look(
        self, record: ConsumerRecord, event: WorkflowEvent
    ) -> tuple[PermanentError | None, str, str]:
        found = judged(record, Subject.EVENT, self._verifier)
        if not isinstance(found, Signed):
            what = "unsigned" if isinstance(found, Unsigned) else "wrong"
            return UnsignedError(found.why), what, _NO_KEY
        if not self._verifier.may_start(found.key, event.workflow_id):
            refused = NotAllowedError(key=found.key, workflow_id=event.workflow_id)
            return refused, "not_allowed", found.key
        return None, "signed", found.key
