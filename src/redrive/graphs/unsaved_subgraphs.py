"""Lets a subgraph that was compiled with `checkpointer=False` run under `durability="sync"`.

LangGraph waits after each superstep for the save that the superstep began, and finds none where
nothing is saved: `AttributeError: '_put_checkpoint_fut'`. The durability of a run reaches all
graphs inside of it, also those that a node compiles and calls, so no other one can be given to
these alone. So the loop gets the missing attribute: a save that is over, until there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["let_unsaved_subgraphs_run"]

_ATTRIBUTE = "_put_checkpoint_fut"


class _Over:
    """A save that is over, for who awaits it and for who waits in a thread."""

    def __await__(self) -> Iterator[None]:
        return iter(())

    def result(self) -> None:
        return


def let_unsaved_subgraphs_run() -> None:
    """Do so for all graphs of this process; a LangGraph that has its own answer keeps it."""
    try:
        from langgraph.pregel._loop import PregelLoop  # noqa: PLC0415 - see below
    except ImportError:  # a LangGraph that is made otherwise: its loop is not ours to know
        return
    if not hasattr(PregelLoop, _ATTRIBUTE):
        setattr(PregelLoop, _ATTRIBUTE, _Over())
