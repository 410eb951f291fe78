"""Whether somebody with a key vouches for a letter, and for the event in it."""

from __future__ import annotations

from enum import StrEnum

from redrive.kafka.log import ConsumerRecord
from redrive.kafka.signed import judged
from redrive.retry.kinds import Reason
from redrive.signatures import SIGNATURE_HEADER, Signed, Subject, Verifier

__all__ = ["Vouched", "letter_signer", "told_once", "vouched"]


class Vouched(StrEnum):
    """Whether a letter may speak for its event.

    `event_not`: a worker wrote it, and its event had no trusted signature: it may name any
    other event's id. `id_not`: its id was another event's before. `letter_not`: nobody says that a
    worker wrote it, where that is required.
    """

    YES = "yes"
    EVENT_NOT = "event_not"
    ID_NOT = "id_not"
    LETTER_NOT = "letter_not"


_OF_REASONS = {
    Reason.UNSIGNED: Vouched.EVENT_NOT,
    Reason.NOT_ALLOWED: Vouched.EVENT_NOT,
    Reason.OTHER_INPUT: Vouched.ID_NOT,
}


def vouched(record: ConsumerRecord, reason: Reason, verifier: Verifier) -> Vouched:
    """Say who vouches for a letter and its event."""
    if verifier.refuses and not isinstance(judged(record, Subject.LETTER, verifier), Signed):
        return Vouched.LETTER_NOT
    return _OF_REASONS.get(reason, Vouched.YES)


def told_once(record: ConsumerRecord, verifier: Verifier) -> bytes | None:
    """Return what a letter is known by that counts once; None where it may be told again.

    Whoever has no key can write again what others have signed.
    """
    return dict(record.headers).get(SIGNATURE_HEADER) if verifier.refuses else None


def letter_signer(record: ConsumerRecord, verifier: Verifier) -> str | None:
    """Return the name of the key that signed a letter; None where none did."""
    found = judged(record, Subject.LETTER, verifier)
    return found.key if isinstance(found, Signed) else None
