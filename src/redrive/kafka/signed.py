"""Signing records that are written, and judging those that were read: see `redrive.signatures`."""

from __future__ import annotations

from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord
from redrive.signatures import (
    SIGNATURE_HEADER,
    Judged,
    SignedText,
    Signer,
    Subject,
    Verifier,
)

__all__ = ["judged", "signed"]

_ANY_PARTITION = -1


def signed(record: ProducerRecord, subject: Subject, signer: Signer | None) -> ProducerRecord:
    """Return the record with its signature, in place of any other; as it is without a signer.

    Its partition is signed as well, so it has to be chosen before.
    """
    if signer is None:
        return record
    partition = _ANY_PARTITION if record.partition is None else record.partition
    headers = tuple(each for each in record.headers if each[0] != SIGNATURE_HEADER)
    text = SignedText(subject, record.topic, partition, record.key, record.value, headers)
    return record._replace(headers=(*headers, signer.sign(text)))


def judged(record: ConsumerRecord, subject: Subject, verifier: Verifier) -> Judged:
    """Say whether a record bears a signature of its own, and whose."""
    topic, partition = record.tp
    return verifier.judge(
        SignedText(subject, topic, partition, record.key, record.value, record.headers)
    )
