"""Records of the audit topic: what was done to letters, and the hashes that chain them.

An audit record holds the state record that was written beside the letter, byte for byte, and its
signature if it bears one. Those of people's commands are one chain for each partition: each has a
number and names the one before by its hash. Only one command at a time writes to a partition
(`redrive.redriving.fenced_partition`), so there is one chain. Workers write at the same time, and
know no number: theirs lie between, and the chain's next record holds one hash of all that lay
there when its command had read them.

What that shows, and what not: docs/auditing.md. Pure: no Kafka in here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from redrive.dead_letter.states import RECORD_HEADER, LetterState
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord
from redrive.signatures import SIGNATURE_HEADER

__all__ = [
    "AuditChain",
    "AuditRecord",
    "Flaw",
    "FlawKind",
    "Plan",
    "audit_record",
    "read_audit_record",
]

AUDIT_HEADERS = ((RECORD_HEADER, b"audit"),)


class Plan(BaseModel):
    """The letters of a partition that a command has chosen, before it did anything with them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    letters: int = Field(ge=0)
    digest: str

    @classmethod
    def of(cls, dlq_ids: Iterable[str]) -> Plan:
        """Return the plan for these letters, in the order in which they lie there."""
        ids = list(dlq_ids)
        return cls(letters=len(ids), digest=sha256(_text(ids)).hexdigest())


class AuditRecord(BaseModel):
    """One record of the audit topic.

    Of what workers write, `seq`, `prev`, `until`, `others`, `job` and `plan` are null. A command's
    first record in a partition has its plan.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: Literal[1] = 1
    seq: int | None = Field(None, ge=1)
    prev: str | None = None
    until: int | None = Field(None, ge=0)
    others: str | None = None
    job: str | None = None
    plan: Plan | None = None
    signature: str | None = None
    done: LetterState


class FlawKind(StrEnum):
    """What is wrong with a record, or with what lies before it."""

    MISSING = "missing"
    ALTERED = "altered"
    FORKED = "forked"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that the chain shows, and where it shows."""

    kind: FlawKind
    offset: int
    what: str


@dataclass(frozen=True, slots=True)
class _Link:
    """The last record of a chain."""

    seq: int
    digest: str
    until: int
    job: str | None


@dataclass(slots=True)
class AuditChain:
    """The chain of one partition: takes its records in their order, and makes the next.

    Attributes:
        start: The first offset that the partition has; above 0, older records are deleted.
        begins_at: The number of the first record of the chain that was there.
        last: The last record of the chain; None before the first.
        others: Where the records lie that are not of the chain and no record of it covers yet, and
            their hashes.
    """

    start: int = 0
    begins_at: int | None = None
    last: _Link | None = None
    others: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def head(self) -> str | None:
        """The last record as `seq:hash`, to be noted elsewhere."""
        return None if self.last is None else f"{self.last.seq}:{self.last.digest}"

    def copy(self) -> AuditChain:
        """Return a chain that goes on from here by itself."""
        return replace(self, others=list(self.others))

    def take(self, record: ConsumerRecord) -> list[Flaw]:
        """Take in the next record that lies there, and return what is wrong."""
        digest = sha256(record.value or b"")
        flaws = []
        told = read_audit_record(record)
        if told is None:
            flaws.append(Flaw(FlawKind.UNREADABLE, record.offset, "it is no audit record"))
        elif record.key != _key(digest.hexdigest()):
            # Compaction keeps one record of each key, so keys are no one's choice.
            what = "its key is not the hash of what it holds"
            flaws.append(Flaw(FlawKind.ALTERED, record.offset, what))
        if told is None or told.seq is None:
            self.others.append((record.offset, digest.digest()))
            return flaws
        last = self.last
        if last is not None and told.seq <= last.seq:
            what = f"number {told.seq} of the chain is there already"
            flaws.append(Flaw(FlawKind.FORKED, record.offset, what))
            self.others.append((record.offset, digest.digest()))
            return flaws
        follows = last is not None and (told.seq, told.prev) == (last.seq + 1, last.digest)
        if last is None:
            self.begins_at = told.seq
            follows = (told.seq, told.prev) == (1, None)
        before = 0 if last is None else last.seq
        if told.seq > before + 1 and (last is not None or self.start == 0):
            what = f"numbers {before + 1} to {told.seq - 1} of the chain are not there"
            flaws.append(Flaw(FlawKind.MISSING, record.offset, what))
        elif last is not None and not follows:
            what = f"number {last.seq} of the chain is not the record that number {told.seq} names"
            flaws.append(Flaw(FlawKind.ALTERED, record.offset, what))
        until = told.until or 0
        covered = [other for offset, other in self.others if offset < until]
        # Nobody knows what the missing ones covered, nor what is deleted of what this one does.
        covered_from = 0 if last is None else last.until
        if follows and covered_from >= self.start and _all(covered) != told.others:
            what = (
                f"the records that are not of the chain, before offset {until}, are not those that "
                f"number {told.seq} has seen there: some are altered, or missing"
            )
            flaws.append(Flaw(FlawKind.ALTERED, record.offset, what))
        self.others = [other for other in self.others if other[0] >= until]
        self.last = _Link(told.seq, digest.hexdigest(), until, told.job)
        return flaws

    def add(
        self, done: ProducerRecord, *, topic: str, until: int, job: str, plan: Plan | None = None
    ) -> ProducerRecord:
        """Return the chain's next record.

        Args:
            done: The state record that is written in the same transaction.
            topic: The audit topic.
            until: Up to which offset its partition was taken in.
            job: What the records of one command have in common.
            plan: What the command has chosen; written with its first record here.
        """
        last = self.last
        is_first = last is None or last.job != job
        seq = 1 if last is None else last.seq + 1
        link = {
            "seq": seq,
            "prev": None if last is None else last.digest,
            "until": until,
            "others": _all([other for _, other in self.others]),
            "job": job,
            "plan": plan.model_dump() if is_first and plan is not None else None,
        }
        record = audit_record(done, topic=topic, link=link)
        self.others.clear()
        self.last = _Link(seq, sha256(record.value or b"").hexdigest(), until, job)
        return record


def audit_record(
    done: ProducerRecord, *, topic: str, link: Mapping[str, object] | None = None
) -> ProducerRecord:
    """Return the audit record of a state record; without a link, one that is not of the chain."""
    whole = {"schema_version": 1, **(link or {})}
    if (signature := dict(done.headers).get(SIGNATURE_HEADER)) is not None:
        whole["signature"] = signature.decode("ascii", "replace")
    # As it is, so that what it says can be compared with what lies beside the letter.
    value = to_json(whole)[:-1] + b',"done":' + (done.value or b"null") + b"}"
    return ProducerRecord(
        topic, _key(sha256(value).hexdigest()), value, AUDIT_HEADERS, done.partition
    )


def read_audit_record(record: ConsumerRecord) -> AuditRecord | None:
    """Read a record of the audit topic; None when it is none."""
    try:
        return AuditRecord.model_validate_json(record.value or b"")
    except ValidationError:
        return None


def _text(ids: list[str]) -> bytes:
    # JSON may escape half characters, which are no UTF-8.
    return "\n".join(ids).encode("utf-8", "surrogatepass")


def _key(digest: str) -> bytes:
    return digest[:32].encode()


def _all(others: list[bytes]) -> str | None:
    return sha256(b"".join(others)).hexdigest() if others else None
