"""Appends letters to the spool on a thread of its own, and raises the alarm once for each."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from redrive.dead_letter.spool import Appended, SourcePlace, Spool, SpooledLetter
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition

__all__ = ["SpoolWriter"]

log = structlog.get_logger("redrive.letters")


@dataclass(frozen=True, slots=True)
class _Offered:
    letter: ProducerRecord
    source: ConsumerRecord


class SpoolWriter:
    """Takes letters from the poll thread, which no disk may hold up.

    Its thread lives while there is something to write, so that nobody has to stop it: a letter
    that a dying process did not spool is not lost, since its event's offset has not moved. [P6]

    Args:
        spool: The file.
        tell: Called with each alarm: None for a letter that was spooled, else why one was not. On
            the thread of this; must not block.
    """

    def __init__(
        self, spool: Spool, *, tell: Callable[[str | None], None] = lambda _: None
    ) -> None:
        self._spool = spool
        self._tell = tell
        self._lock = threading.Lock()
        self._offered: deque[_Offered] = deque()
        self._queued: set[tuple[TopicPartition, int]] = set()
        self._writing = False
        self._told: set[str] = set()

    def offer(self, letter: ProducerRecord, *, source: ConsumerRecord) -> None:
        """Write this letter soon, unless the spool holds it; never blocks on the disk."""
        with self._lock:
            # A disk that hangs must not let the same letters pile up here. [P11]
            if (source.tp, source.offset) in self._queued:
                return
            self._queued.add((source.tp, source.offset))
            self._offered.append(_Offered(letter, source))
            if self._writing:
                return
            self._writing = True
        threading.Thread(target=self._write_all, name="redrive-spool", daemon=True).start()

    @property
    def idle(self) -> bool:
        """Whether all that was offered is dealt with."""
        with self._lock:
            return not self._writing

    def _write_all(self) -> None:
        try:
            while (offered := self._next()) is not None:
                self._write(offered)
        except BaseException:
            # A bug ends this thread, with its traceback; the next offer starts another.
            with self._lock:
                self._writing = False
            raise

    def _next(self) -> _Offered | None:
        with self._lock:
            self._writing = bool(self._offered)
            if not self._writing:
                return None
            offered = self._offered.popleft()
            self._queued.discard((offered.source.tp, offered.source.offset))
            return offered

    def _write(self, offered: _Offered) -> None:
        letter = _spooled(offered)
        try:
            appended = self._spool.append(letter)
            failed = "the spool is full" if appended is Appended.FULL else None
        except OSError as error:
            failed = str(error)
        facts = {
            "dlq_id": letter.dlq_id,
            "topic": offered.source.tp.topic,
            "partition": offered.source.tp.partition,
            "offset": offered.source.offset,
            "spool": str(self._spool.path),
        }
        if failed is None:
            self._tell_spooled(letter.dlq_id, facts)
        else:
            self._tell_not_spooled(letter.dlq_id, facts, failed)

    def _tell_spooled(self, dlq_id: str, facts: dict[str, object]) -> None:
        if self._once(f"spooled {dlq_id}"):
            log.error("letter.spooled", **facts)
            self._tell(None)

    def _tell_not_spooled(self, dlq_id: str, facts: dict[str, object], error: str) -> None:
        if self._once(f"not spooled {dlq_id}"):
            log.error("letter.not_spooled", **facts, error=error)
            self._tell(error)

    def _once(self, what: str) -> bool:
        first = what not in self._told
        self._told.add(what)
        return first


def _spooled(offered: _Offered) -> SpooledLetter:
    letter, source = offered.letter, offered.source
    value = letter.value or b""
    return SpooledLetter(
        dlq_id=json.loads(value)["dlq_id"],
        topic=letter.topic,
        partition=letter.partition,
        key=letter.key,
        headers=letter.headers,
        value=value,
        source=SourcePlace(
            topic=source.tp.topic, partition=source.tp.partition, offset=source.offset
        ),
    )
