"""From what a run came to, to the records that say so: results and letters.

Sizes are checked here, before anything is produced: one record over its topic's limit would abort
everyone's batch. Whatever an event holds, what is told of its end fits: an answer goes without its
texts, a letter at last without the event that it cannot hold. A topic that takes less than it said
gets ever smaller ones. [P1]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from pydantic_core import to_json

from redrive.clock import Clock, moment
from redrive.consumer.event_run import Run
from redrive.consumer.letter_states import position_of, states_after
from redrive.consumer.outcome import Account, Ending, NotTaken, Outcome, PolledRecord
from redrive.dead_letter.audit_chain import audit_record
from redrive.dead_letter.failure_text import failure_text
from redrive.dead_letter.record import (
    CheckpointRef,
    DeadLetter,
    GraphRef,
    LetterContext,
    Source,
    dlq_id,
    event_name,
    input_digest,
    kept_attempts,
)
from redrive.dead_letter.redacted_text import BUILT_IN, Redactor, masked, readable
from redrive.dead_letter.sealing import sealed_letter
from redrive.dead_letter.shortened import MAX_KEPT_KEY_BYTES
from redrive.dead_letter.source import value_digest
from redrive.dead_letter.states import State
from redrive.errors import RecordError, ResultError
from redrive.events import (
    MAX_NAME_CHARS,
    ErrorInfo,
    EventHeaders,
    ResultStatus,
    RunInfo,
    WorkflowEvent,
    WorkflowResultEvent,
    excess_of,
    readable_event_id,
)
from redrive.graphs.attempt_ends import Ended, GraphVersion, Position
from redrive.json_texts import parsed_json
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.signed import signed
from redrive.payloads import CLEAR, Payloads
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.sealed_records import sealed_result, told_of
from redrive.signatures import Signer, Subject

__all__ = ["GivenUp", "OutcomeBuilder"]

log = structlog.get_logger("redrive.security")


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Why a run ends without a result of its graph.

    `silent` is set where the error's text is not to be had: it is told by its type alone.
    """

    error: BaseException
    failure: Failure
    reason: Reason
    node: str | None = None
    position: Position | None = None
    graph: GraphVersion | None = None
    silent: bool = False


class OutcomeBuilder:
    """Builds outcomes.

    Args:
        results_topic: Where results go.
        dlq_topic: Where letters go.
        max_bytes: The largest record that each topic takes.
        worker: This worker's name, for people.
        clock: For the times in the records.
        redactor: Masks secrets in what failures say. [P15]
        signer: Signs letters, and what is said of them.
        audit_topic: Where what becomes of driven letters is recorded, if anywhere.
        payloads: Encrypts what results and letters say, where that is wanted. What is told of an
            ending elsewhere then holds no text of its error.
    """

    def __init__(  # noqa: PLR0913 - what records are made with, each by its name
        self,
        *,
        results_topic: str,
        dlq_topic: str,
        max_bytes: Mapping[str, int],
        worker: str,
        clock: Clock,
        redactor: Redactor = BUILT_IN,
        signer: Signer | None = None,
        audit_topic: str | None = None,
        payloads: Payloads = CLEAR,
    ) -> None:
        self._signer = signer
        self._payloads = payloads
        self._results_topic = results_topic
        self._dlq_topic = dlq_topic
        self._audit_topic = audit_topic
        self._max_bytes = max_bytes
        self._worker = worker
        self._clock = clock
        self.redactor = redactor

    def ended(self, run: Run, ended: Ended) -> Outcome:
        """The graph ended: a success, or a failure that it told itself."""
        info = None
        told = None if ended.error is None else masked(ended.error, self.redactor)
        if ended.reason is not None:
            info = ErrorInfo(
                kind=Kind.PERMANENT,
                type="",
                message=told or "",
                reason=ended.reason,
                attempts=run.attempts + 1,
                exhausted=False,
            )
        status = ResultStatus.SUCCESS if ended.reason is None else ResultStatus.FAILURE
        answer = self._result(run, status, result=ended.result, error=told, info=info)
        try:
            record = self._result_record(sealed_result(answer, self._payloads))
        except Exception as error:  # noqa: BLE001 - a codec of the user's may raise anything
            text = f"the result cannot be encrypted: {told_of(error)}"
            return self._unpublishable(run, text, Reason.CODEC_FAILED)
        limit = self._max_bytes[self._results_topic]
        if record.size_bytes > limit:
            text = f"the result has {record.size_bytes} bytes, {self._results_topic} takes {limit}"
            return self._unpublishable(run, text, Reason.RESULT_TOO_LARGE)
        ending = Ending.SUCCEEDED if ended.reason is None else Ending.FAILED
        return Outcome(
            run.polled,
            ending,
            (record, *self._states(run, State.RESOLVED, ended.reason)),
            self._account(
                run, ending, attempts=run.attempts + 1, error=self._told_of(info), graph=ended.graph
            ),
            fallback=lambda no: self._unpublishable(run, no.error, Reason.RESULT_REFUSED),
        )

    def given_up(self, run: Run, given_up: GivenUp) -> Outcome:
        """Stop trying: an error for who waits, and a letter."""
        letter = self._letter(run.polled, given_up, run.headers, run=run)
        info = _error_info(letter, given_up.failure, attempts=run.attempts)
        answer = self._result(run, ResultStatus.ERROR, error=_text(letter), info=info)
        told = self._told_of(info)
        account = self._account(run, Ending.DEAD_LETTERED, error=told, graph=given_up.graph)
        return self._told(_Told(run.polled, account, answer, letter), self._max_bytes)

    def expired(self, run: Run) -> Outcome:
        """Its deadline passed before any attempt: an error for who waits, and no letter."""
        info = ErrorInfo(
            kind=Kind.TIMEOUT,
            type="",
            message="the deadline passed before the run could start",
            reason=Reason.EXPIRED,
            attempts=0,
            exhausted=False,
        )
        answer = self._result(run, ResultStatus.ERROR, error=info.message, info=info)
        # It ends without a letter of its own: the one that it came from stays to be worked on.
        states = self._states(run, State.OPEN, Reason.EXPIRED)
        account = self._account(run, Ending.EXPIRED, error=info)
        told = _Told(run.polled, account, answer, states=states)
        return self._told(told, self._max_bytes)

    def unreadable(
        self, polled: PolledRecord, error: RecordError, *, headers: EventHeaders | None = None
    ) -> Outcome:
        """It cannot be read: a letter, and an error if it can be told whose it is.

        `headers` say what is known of it, which is nothing unless it drives a letter.
        """
        given_up = GivenUp(error, Failure(Kind.POISON), Reason.UNREADABLE)
        letter = self._letter(polled, given_up, headers or EventHeaders())
        info = _error_info(letter, given_up.failure, attempts=0)
        event_id, answer = readable_event_id(polled.record.value), None
        if event_id is not None:
            answer = WorkflowResultEvent(
                correlation_id=event_id,
                workflow_id=letter.context.workflow_id,
                workflow_run_id=letter.context.workflow_run_id,
                status=ResultStatus.ERROR,
                timestamp=self._clock.now(),
                error=_text(letter),
                error_info=info,
                answers=position_of(polled),
            )
        account = Account(
            polled.tp,
            polled.offset,
            Ending.DEAD_LETTERED,
            workflow_id=letter.context.workflow_id,
            event_id=event_id,
            redrive_count=letter.redrive_count,
            error=self._told_of(info),
        )
        return self._told(_Told(polled, account, answer, letter), self._max_bytes)

    def gone(self, run: Run, error: RecordError) -> Outcome:
        """Its record is no more: an error for who waits, and a letter without its bytes."""
        given_up = GivenUp(error, Failure(Kind.POISON), Reason.UNREADABLE)
        letter = self._letter(run.polled, given_up, run.headers, run=run)
        info = _error_info(letter, given_up.failure, attempts=run.attempts)
        answer = WorkflowResultEvent(
            correlation_id=run.event_id,
            workflow_id=run.workflow_id,
            workflow_run_id=None,
            status=ResultStatus.ERROR,
            timestamp=self._clock.now(),
            error=_text(letter),
            error_info=info,
            answers=position_of(run.polled),
        )
        account = Account(
            run.polled.tp,
            run.polled.offset,
            Ending.DEAD_LETTERED,
            workflow_id=run.workflow_id,
            event_id=run.event_id,
            attempts=run.attempts,
            redrive_count=run.headers.count,
            error=self._told_of(info),
        )
        return self._told(_Told(run.polled, account, answer, letter), self._max_bytes)

    def skipped(self, polled: PolledRecord, event: WorkflowEvent) -> Outcome:
        """Nothing is to be done: the offset moves, and it is counted."""
        account = Account(
            polled.tp,
            polled.offset,
            Ending.SKIPPED,
            workflow_id=event.workflow_id,
            event_id=event.event_id,
        )
        return Outcome(polled, Ending.SKIPPED, (), account)

    def _account(
        self,
        run: Run,
        ending: Ending,
        *,
        attempts: int | None = None,
        error: ErrorInfo | None = None,
        graph: GraphVersion | None = None,
    ) -> Account:
        age_s = (self._clock.now() - run.event.timestamp).total_seconds()
        return Account(
            run.polled.tp,
            run.polled.offset,
            ending,
            workflow_id=run.event.workflow_id,
            event_id=run.event.event_id,
            attempts=run.attempts if attempts is None else attempts,
            redrive_count=run.headers.count,
            took_s=None if run.began is None else self._clock.monotonic() - run.began,
            # The producer's clock may be ahead of ours.
            age_s=max(age_s, 0.0),
            error=error,
            graph=graph,
        )

    def _states(self, run: Run, state: State, reason: Reason | None) -> tuple[ProducerRecord, ...]:
        told = states_after(
            run,
            state,
            reason=reason,
            topic=self._dlq_topic,
            worker=self._worker,
            at=self._clock.now(),
        )
        states = tuple(signed(record, Subject.STATE, self._signer) for record in told)
        if self._audit_topic is None:
            return states
        return (*states, *(audit_record(state, topic=self._audit_topic) for state in states))

    def _unpublishable(self, run: Run, text: str, reason: Reason) -> Outcome:
        error = ResultError(text, reason=reason.value)
        return self.given_up(run, GivenUp(error, Failure(Kind.PERMANENT), reason))

    def _told(self, told: _Told, limits: Mapping[str, int]) -> Outcome:
        records = list(told.states)
        if told.answer is not None:
            records.insert(0, self._fitting(told.answer, limits[self._results_topic]))
        if told.letter is not None:
            records.append(self._letter_record(told.polled, told.letter, limits[self._dlq_topic]))

        def smaller(no: NotTaken) -> Outcome | None:
            size = max(record.size_bytes for record in records if record.topic == no.topic)
            if not no.is_too_large:
                return None
            other = self._told(told, {**limits, no.topic: size - 1})
            # As small as it gets: then the topic must take more.
            fits = all(r.size_bytes < size for r in other.records if r.topic == no.topic)
            return other if fits else None

        ending = told.account.ending
        return Outcome(told.polled, ending, tuple(records), told.account, fallback=smaller)

    def _fitting(self, answer: WorkflowResultEvent, limit: int) -> ProducerRecord:
        record = self._result_record(self._sealed(answer))
        for shorter in _shortened(answer):
            if record.size_bytes <= limit:
                break
            # Nothing of it is a payload's any more.
            record = self._result_record(shorter)
        return record

    def _sealed(self, answer: WorkflowResultEvent) -> WorkflowResultEvent:
        """Encrypt an answer's texts; a codec that fails leaves them out, and stops nothing."""
        try:
            return sealed_result(answer, self._payloads)
        except Exception as error:  # noqa: BLE001 - a codec of the user's may raise anything
            event_id, why = answer.correlation_id, told_of(error)
            log.error("codec.failed", what="result", event_id=event_id, error=why)  # noqa: TRY400 - a traceback may hold keys
            return next(_shortened(answer))

    def _told_of(self, info: ErrorInfo | None) -> ErrorInfo | None:
        """Return what logs, figures and messages are told: no text where texts are encrypted."""
        if info is None or self._payloads.label is None:
            return info
        return info.model_copy(update={"message": f"encrypted ({self._payloads.label})"})

    def _result(
        self,
        run: Run,
        status: ResultStatus,
        *,
        result: object = None,
        error: str | None = None,
        info: ErrorInfo | None = None,
    ) -> WorkflowResultEvent:
        attempts = run.attempts + (1 if status is not ResultStatus.ERROR else 0)
        return WorkflowResultEvent(
            correlation_id=run.event.event_id,
            workflow_id=run.event.workflow_id,
            workflow_run_id=run.event.workflow_run_id,
            result=result,
            status=status,
            timestamp=self._clock.now(),
            error=error,
            error_info=info,
            run=RunInfo(
                attempts=attempts,
                started_at=run.started_at,
                finished_at=self._clock.now(),
                resumed=run.resumed,
                redrive_count=run.headers.count,
                worker=self._worker,
                resume_verified=run.verified,
            ),
            answers=position_of(run.polled),
        )

    def _result_record(self, answer: WorkflowResultEvent) -> ProducerRecord:
        return ProducerRecord(
            topic=self._results_topic, key=answer.correlation_id.encode(), value=answer.to_bytes()
        )

    def _letter(
        self, polled: PolledRecord, given_up: GivenUp, headers: EventHeaders, run: Run | None = None
    ) -> DeadLetter:
        original = _parsed(polled.record.value)
        tp, record = polled.tp, polled.record
        workflow_id = _text_of(original, "workflow_id")
        kind = given_up.failure.kind
        told = failure_text(
            given_up.error,
            kind=kind,
            node=given_up.node,
            workflow_id=workflow_id,
            redactor=self.redactor,
            silent=given_up.silent,
        )
        return DeadLetter(
            dlq_id=dlq_id(*tp, polled.offset, count=headers.count, event=event_name(record.value)),
            timestamp=self._clock.now(),
            original_event=original,
            error=told.error,
            retry_count=max(run.attempts - 1, 0) if run else 0,
            context=LetterContext(
                workflow_id=workflow_id,
                workflow_run_id=_text_of(original, "workflow_run_id"),
            ),
            kind=kind,
            reason=given_up.reason,
            fingerprint=told.fingerprint,
            node=given_up.node,
            cause_chain=told.cause_chain,
            attempts=kept_attempts(run.failed) if run else [],
            source=_source(polled),
            checkpoint=_checkpoint(given_up.position),
            graph=_graph(given_up.graph),
            deadline=_deadline(run),
            redrive_count=headers.count,
            redrive_of=headers.of,
            generation=headers.generation,
            input_digest=_input_digest(polled, run, given_up.reason),
        )

    def _letter_record(
        self, polled: PolledRecord, letter: DeadLetter, limit: int
    ) -> ProducerRecord:
        key, headers = polled.record.key, tuple(letter.headers())
        room = () if self._signer is None else (self._signer.room,)
        overhead = ProducerRecord(self._dlq_topic, key, None, (*headers, *room)).size_bytes
        seal = partial(sealed_letter, payloads=self._payloads)
        value = letter.to_bytes(limit=limit - overhead, seal=seal)
        if len(value) + overhead > limit:
            # Its place and its digest say where the event is: a letter that its topic does not take
            # would keep its partition from ever going on. [P1]
            value = letter.to_bytes(limit=limit - overhead, whole=False, seal=seal)
            key = key if len(key or b"") <= MAX_KEPT_KEY_BYTES else None
        record = ProducerRecord(
            self._dlq_topic, key, value, headers=headers, partition=polled.tp.partition
        )
        return signed(record, Subject.LETTER, self._signer)


@dataclass(frozen=True, slots=True)
class _Told:
    """What is told of an ending, before it is made to fit its topics."""

    polled: PolledRecord
    account: Account
    answer: WorkflowResultEvent | None = None
    letter: DeadLetter | None = None
    states: tuple[ProducerRecord, ...] = ()


def _shortened(answer: WorkflowResultEvent) -> Iterator[WorkflowResultEvent]:
    """Yield the answer without its texts, then without the names that are not ours as well."""
    info = answer.error_info
    if info is not None:
        info = info.model_copy(update={"message": "", "type": "", "node": None})
    error = None if info is None else info.reason.value
    answer = answer.model_copy(update={"error": error, "error_info": info, "run": None})
    yield answer
    yield answer.model_copy(update={"workflow_id": None, "workflow_run_id": None})


def _error_info(letter: DeadLetter, failure: Failure, *, attempts: int) -> ErrorInfo:
    return ErrorInfo(
        kind=letter.kind,
        type=letter.error.type,
        message=letter.error.message,
        reason=letter.reason,
        node=letter.node,
        fingerprint=letter.fingerprint,
        attempts=attempts,
        exhausted=letter.reason is Reason.RETRIES_EXHAUSTED,
        retry_after_s=failure.retry_after,
        dlq_id=letter.dlq_id,
    )


def _text(letter: DeadLetter) -> str:
    node = f" in node {letter.node!r}" if letter.node else ""
    return f"{letter.reason.value}{node}: {letter.error.type}: {letter.error.message}"


def _parsed(value: bytes | None) -> dict[str, Any] | None:
    """Return the event as JSON that can be written again; the source keeps its bytes anyway."""
    if value is None or excess_of(value) is not None:
        return None
    try:
        parsed = parsed_json(value)
        to_json(parsed)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _text_of(event: Mapping[str, Any] | None, name: str) -> str | None:
    found = event.get(name) if event else None
    return readable(found, limit=MAX_NAME_CHARS) if isinstance(found, str) else None


def _input_digest(polled: PolledRecord, run: Run | None, reason: Reason) -> str | None:
    value = polled.record.value
    # What cannot be decrypted may be anybody's: it passes for no event that could be.
    if run is None or run.is_let_go or reason is Reason.CODEC_FAILED:
        return input_digest(readable_event_id(value), value_digest(value))
    return input_digest(run.event_id, run.said(), run.thread_id)


def _source(polled: PolledRecord) -> Source:
    record = polled.record
    return Source(
        topic=record.tp.topic,
        partition=record.tp.partition,
        offset=record.offset,
        timestamp=record.timestamp_ms,
        key=record.key,
        headers=list(record.headers),
        value=record.value,
    )


def _checkpoint(position: Position | None) -> CheckpointRef | None:
    if position is None:
        return None
    return CheckpointRef(
        thread_id=position.thread_id,
        checkpoint_id=position.checkpoint_id,
        checkpoint_ns=position.checkpoint_ns,
    )


def _graph(graph: GraphVersion | None) -> GraphRef | None:
    return None if graph is None else GraphRef(name=graph.name, version=graph.version)


def _deadline(run: Run | None) -> datetime | None:
    if run is None or run.headers.deadline is None:
        return None
    return moment(run.headers.deadline)
