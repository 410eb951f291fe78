"""What may be done with a letter: pure decisions, values that can be printed and compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from redrive.dead_letter.states import State
from redrive.redriving.partition import Entry
from redrive.retry.kinds import Reason

__all__ = [
    "Decision",
    "Mode",
    "Move",
    "Refusal",
    "Refuse",
    "Send",
    "decide_redrive",
    "decide_state",
]

Mode = Literal["resume", "restart"]


class Refusal(StrEnum):
    """Why nothing is done with a letter."""

    ALREADY_RUNNING = "already_running"
    CHECKPOINT_GONE = "checkpoint_gone"
    DISCARDED = "discarded"
    EVENT_GONE = "event_gone"
    ID_OF_SEVERAL = "id_of_several"
    NOT_PARKED = "not_parked"
    NOT_READABLE = "not_readable"
    NOT_SIGNED = "not_signed"
    NOT_TAKEN = "not_taken"
    NO_PARTITION = "no_partition"
    OTHER_EVENT = "other_event"
    OTHER_INPUT = "other_input"
    PARKED = "parked"
    RESOLVED = "resolved"
    SUPERSEDED = "superseded"
    THREAD_MOVED_ON = "thread_moved_on"
    THREAD_OF_ANOTHER = "thread_of_another"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Send:
    """Send the letter's event back, as its `count`-th redrive."""

    mode: Mode
    count: int


@dataclass(frozen=True, slots=True)
class Move:
    """Write that the letter stands elsewhere now."""

    state: State


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do nothing: `refusal` is for programs, `why` for people."""

    refusal: Refusal
    why: str


Decision = Send | Move | Refuse


def decide_redrive(entry: Entry, *, mode: Mode, most: int, edited: bool = False) -> Send | Refuse:
    """Choose whether a letter's event is sent back.

    Args:
        entry: The letter, as its partition tells at this moment.
        mode: Where the run shall go on. An edited event always begins anew: a run that goes on
            from its checkpoint would never look at what was changed.
        most: How often one event may be driven (`redrive.max`).
        edited: Whether its payload is replaced.
    """
    busy = _over(entry)
    if busy is not None:
        return busy
    if entry.state is State.PARKED:
        return Refuse(Refusal.PARKED, f"{_by(entry)} parked it: unpark it first")
    if entry.redrive_count >= most:
        return Refuse(
            Refusal.TOO_MANY, f"driven {entry.redrive_count} times, of {most} (redrive.max)"
        )
    if not entry.can_read and not edited:
        return Refuse(Refusal.NOT_READABLE, "its event cannot be read: edit it")
    if mode == "restart" or edited:
        return Send("restart", entry.redrive_count + 1)
    return _unresumable(entry) or Send("resume", entry.redrive_count + 1)


def decide_state(entry: Entry, wanted: State) -> Move | Refuse:
    """Choose whether a letter is discarded, parked, or opened again (`State.OPEN`)."""
    busy = _over(entry)
    if busy is not None:
        return busy
    if wanted is State.OPEN and entry.state is not State.PARKED:
        return Refuse(Refusal.NOT_PARKED, "it is not set aside")
    if wanted is entry.state:
        return Refuse(Refusal.PARKED, f"{_by(entry)} parked it already")
    return Move(wanted)


def _unresumable(entry: Entry) -> Refuse | None:
    match entry.reason:
        case Reason.THREAD_MOVED_ON:
            return Refuse(Refusal.THREAD_MOVED_ON, "another run used its thread: restart it")
        case Reason.CHECKPOINT_GONE:
            return Refuse(Refusal.CHECKPOINT_GONE, "there is nothing to resume from: restart it")
        case Reason.OTHER_INPUT:
            why = "another event of its id has run: if it is meant, restart it"
            return Refuse(Refusal.OTHER_INPUT, why)
        case Reason.THREAD_OF_ANOTHER:
            why = "its thread is another workflow's: when that is deleted, restart it"
            return Refuse(Refusal.THREAD_OF_ANOTHER, why)
        case _:
            return None


def _over(entry: Entry) -> Refuse | None:
    if entry.superseded_by is not None:
        return Refuse(Refusal.SUPERSEDED, f"the newer letter is {entry.superseded_by}")
    match entry.state:
        case State.REDRIVEN:
            return Refuse(Refusal.ALREADY_RUNNING, f"{_by(entry)} sent it; it has not ended yet")
        case State.RESOLVED:
            return Refuse(Refusal.RESOLVED, "a redrive of it has ended")
        case State.DISCARDED:
            return Refuse(Refusal.DISCARDED, f"{_by(entry)} discarded it")
        case State.OPEN | State.PARKED:
            return None


def _by(entry: Entry) -> str:
    when = "" if entry.state_at is None else f" at {entry.state_at:%Y-%m-%d %H:%M:%S}"
    return f"{entry.actor or 'somebody'}{when}"
