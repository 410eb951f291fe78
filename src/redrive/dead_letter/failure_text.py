"""All that a letter says of an exception; nothing in it is the node's any more.

It asks the exception for its texts and masks them: a worker makes it in a thread, for a limited
time (`redrive.aside`). An exception that does not answer in time is told by its type alone. [P7]
"""

from __future__ import annotations

from dataclasses import dataclass

from redrive.dead_letter.fingerprint import fingerprint, fingerprint_of_type
from redrive.dead_letter.record import Cause, LetterError, cause_chain, letter_error
from redrive.dead_letter.redacted_text import BUILT_IN, SILENT, Redactor, qualified
from redrive.retry.kinds import Kind

__all__ = ["FailureText", "failure_text"]


@dataclass(frozen=True, slots=True)
class FailureText:
    """What went wrong, from where, and what equal failures share: masked, within limits."""

    error: LetterError
    cause_chain: list[Cause]
    fingerprint: str


def failure_text(
    error: BaseException,
    *,
    kind: Kind,
    node: str | None,
    workflow_id: str | None,
    redactor: Redactor = BUILT_IN,
    silent: bool = False,
) -> FailureText:
    """Return what a letter says of an exception.

    Args:
        error: The exception, as it was caught.
        kind: How it was judged; of what cannot be read the traceback is ours, and left out.
        node: Where it was raised.
        workflow_id: By the event.
        redactor: Masks secrets in what it says.
        silent: Do not ask the exception for anything.
    """
    if silent:
        name = qualified(error)
        return FailureText(
            LetterError(type=name, message=SILENT),
            [Cause(type=name, message=SILENT)],
            fingerprint_of_type(error, kind=kind, node=node, workflow_id=workflow_id),
        )
    return FailureText(
        letter_error(error, redactor, traced=kind is not Kind.POISON),
        cause_chain(error, redactor),
        fingerprint(error, kind=kind, node=node, workflow_id=workflow_id, redactor=redactor),
    )
