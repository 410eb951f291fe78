"""`redrive dlq edit`: drive one letter with a changed event; the letter keeps the original.

The change comes from a file, from `--set`, or from the person's editor.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from redrive.cli.dlq_redrive import AskFlags, NoWait, drive
from redrive.cli.editor import Draft
from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.flag_groups import grouped
from redrive.cli.letter_flags import Acting
from redrive.cli.one_letter import newest_story
from redrive.cli.output import agreed, note, visible
from redrive.cli.shared_flags import BrokerFlags
from redrive.dead_letter.record import DeadLetter
from redrive.errors import RecordError
from redrive.payloads import Payloads
from redrive.redriving.batch_pacing import Pacing
from redrive.redriving.deciding import Refusal
from redrive.redriving.editing import (
    Change,
    check_event,
    compact,
    pretty,
    same,
    set_values,
    text_of,
)
from redrive.redriving.engine import plan
from redrive.redriving.jobs import Order
from redrive.redriving.sealed_events import (
    open_text,
    opened_draft,
    seal_in,
    seal_text,
    sealed_draft,
)
from redrive.redriving.selection import Selection
from redrive.sealed_records import told_of
from redrive.settings import Settings
from redrive.signatures import Trust

__all__ = ["edit"]

_BY_FILE = "give the whole event with --event FILE"


@grouped
def edit(
    acting: Acting,
    asking: AskFlags,
    broker: BrokerFlags,
    *,
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A dlq_id or an event_id.")],
    event: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The complete changed event as JSON; - for stdin."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Set one value, as in payload.data.iban=DE02; JSON if it parses, otherwise text. "
            "Can be repeated.",
        ),
    ] = None,
    no_wait: NoWait = False,
) -> None:
    """Redrive one letter with a changed event. The run starts from the beginning.

    Without --event and --set, the event opens in your editor ($VISUAL, $EDITOR).
    """
    changes = _changes(event, values)
    settings = broker.settings()

    trust = settings.security.trust(for_letters=True)
    letter = newest_story(settings.kafka, wanted, trust.verifier).stored.letter
    editing = _Editing.of(letter, settings.security.payloads())

    def send(text: str) -> bool:
        replace = {letter.dlq_id: editing.sent(text)}
        order = Order(reason=acting.why, max_redrives=settings.redrive.max, replace=replace)
        selection = Selection.of([letter.dlq_id])
        return drive(
            settings.kafka, trust, selection, order, Pacing(), acting, asking, wait=not no_wait
        )

    if event is not None:
        send(_from_file(event, editing))
    elif changes:
        send(_with_values(changes, editing))
    else:
        _stop_if_refused(settings, letter, trust)
        _from_editor(editing, send)


@dataclass(frozen=True, slots=True)
class _Editing:
    """A letter whose event is changed, as the person sees it and as it is sent.

    Where the event is encrypted, or events are to be, so is what is sent, and what is kept of a
    draft: the editor alone has it in clear.
    """

    letter: DeadLetter
    payloads: Payloads
    is_sealed: bool

    @classmethod
    def of(cls, letter: DeadLetter, payloads: Payloads) -> _Editing:
        """Look at the letter; refuse an encrypted one that nothing here decodes.

        Raises:
            CommandError: Its event is encrypted, and cannot be decoded.
        """
        sealed = seal_in(letter.source.value) is not None
        editing = cls(letter, payloads, sealed or payloads.label is not None)
        if sealed:
            editing.text()
        return editing

    def text(self) -> str:
        """Return the event's text, decoded.

        Raises:
            RecordError: It has none.
            CommandError: It is encrypted, and cannot be decoded.
        """
        return self.opened(text_of(self.letter.source.value))

    def opened(self, text: str) -> str:
        """Return an event's text, decoded; raises as `text` does."""
        with _codec():
            return open_text(text, self.payloads)

    def taken(self, value: bytes) -> bytes:
        """Return what a file holds: a draft that was kept is decoded."""
        with _codec():
            return opened_draft(value, self.letter.dlq_id, self.payloads)

    def kept(self, value: bytes) -> bytes:
        """Return what is to be kept of what was typed."""
        return sealed_draft(value, self.letter.dlq_id, self.payloads) if self.is_sealed else value

    def sent(self, text: str) -> bytes:
        """Return what is sent in the event's place."""
        if not self.is_sealed:
            return text.encode()
        with _codec():
            return seal_text(text, self.payloads).encode()


@contextmanager
def _codec() -> Iterator[None]:
    """Say in one line that the codec could not do it: nothing is sent then."""
    try:
        yield
    except RecordError:
        raise
    except Exception as error:
        raise CommandError(ExitCode.ENDED_BADLY, f"not sent: {visible(told_of(error))}") from error


def _changes(event: str | None, values: list[str] | None) -> list[Change]:
    """Return what `--set` asks for; refuse two ways at once, and an editor without a terminal."""
    if event is not None and values:
        raise typer.BadParameter("give --event or --set, not both", param_hint="--set")
    if event is None and not values and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError(
            ExitCode.SETTINGS, f"no terminal for an editor: give --set PATH=VALUE, or {_BY_FILE}"
        )
    try:
        return [Change.parse(value) for value in values or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error


def _from_file(name: str, editing: _Editing) -> str:
    try:
        value = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot be read: {error}", param_hint="--event") from error
    try:
        text = editing.opened(text_of(editing.taken(value)))
        _check(text, editing.letter)
    except RecordError as error:
        raise _not_sent(error) from error
    return text


def _with_values(changes: list[Change], editing: _Editing) -> str:
    try:
        before = editing.text()
        text, remarks = set_values(before, changes)
        _check(text, editing.letter)
    except RecordError as error:
        raise _not_sent(error, remedy=_BY_FILE) from error
    if same(text, before):
        raise _unchanged(editing.letter)
    for remark in remarks:
        note(remark)
    return text


def _stop_if_refused(settings: Settings, letter: DeadLetter, trust: Trust) -> None:
    """Say it before the person types, not after."""
    order = Order(mode="restart", max_redrives=settings.redrive.max)
    for no in plan(settings.kafka, Selection.of([letter.dlq_id]), order, trust=trust).refused:
        if no.refusal is not Refusal.NOT_READABLE:
            raise CommandError(ExitCode.ENDED_BADLY, f"{no.refusal.value}: {visible(no.why)}")


def _from_editor(editing: _Editing, send: Callable[[str], bool]) -> None:
    """Let the person change the event, and send it; what was typed and not sent is kept."""
    shown, letter = _shown(editing), editing.letter
    draft = Draft(shown, in_memory=editing.is_sealed)
    try:
        if send(_typed(draft, shown, letter)):
            draft.drop()
    finally:
        if draft.holds_more:
            draft.keep(editing.kept)
            name, dlq_id = shlex.quote(str(draft.path)), shlex.quote(letter.dlq_id)
            note(f"your changes are kept: redrive dlq edit {dlq_id} --event {name}")
        else:
            draft.drop()


def _shown(editing: _Editing) -> str:
    """Return the event for people; one that is not JSON is theirs to mend, if it is text."""
    try:
        text = editing.text()
    except RecordError as error:
        raise _not_sent(error, remedy=_BY_FILE) from error
    try:
        return pretty(text)
    except RecordError as error:
        note(f"the event is not valid, correct it: {visible(str(error))}")
        return text


def _typed(draft: Draft, shown: str, letter: DeadLetter) -> str:
    """Return the event that was typed; ask for it until it is one, or nothing is to be sent."""
    while True:
        try:
            text = text_of(draft.edit())
            if same(text, shown):
                draft.drop()
                raise _unchanged(letter)
            _check(text, letter)
            return compact(text)
        except RecordError as error:
            note(f"not sent: {visible(str(error))}")
        if not agreed("Open the editor again?", default=True, err=True):
            raise CommandError(ExitCode.ENDED_BADLY, "nothing was sent")


def _check(text: str, letter: DeadLetter) -> None:
    check_event(text, event_id=letter.event_id)


def _not_sent(error: RecordError, *, remedy: str = "") -> CommandError:
    # The names of keys are the producer's, and this goes to a terminal.
    why = visible(str(error)) + (f": {remedy}" if remedy else "")
    return CommandError(ExitCode.ENDED_BADLY, f"not sent: {why}")


def _unchanged(letter: DeadLetter) -> CommandError:
    return CommandError(
        ExitCode.ENDED_BADLY,
        "nothing was changed and nothing is sent; to send it unchanged: "
        f"redrive dlq redrive {shlex.quote(letter.dlq_id)} --restart",
    )
