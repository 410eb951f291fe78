"""Are all endings as they should be? Pure: a summary goes in, the differences come out."""

from __future__ import annotations

from collections.abc import Iterator

from redrive.demo.plan import PLAN, ExpectedLetter, ExpectedRun
from redrive.demo.summary import RunFacts, Summary

__all__ = ["differences"]


def differences(summary: Summary) -> tuple[str, ...]:
    """Return one line for each thing that is not as planned; none when all is well."""
    runs = {run.task: run for run in summary.runs}
    found: list[str] = []
    for expected in PLAN:
        run = runs.get(expected.task, RunFacts(expected.task))
        found += (f"{expected.task}: {line}" for line in _of_run(run, expected))
    return tuple(found)


def _of_run(run: RunFacts, expected: ExpectedRun) -> Iterator[str]:
    if run.event_id is None:
        yield "the task did not start"
        return
    yield from _compare("Airflow's state", run.state, expected.state)
    answers = ", ".join(run.statuses) or "none"
    yield from _compare("answers on the results topic", answers, expected.status.value)
    yield from _compare("attempts", run.attempts, expected.attempts)
    executions = run.executions or {}
    for node in sorted({*executions, *expected.executions}):
        there, least = executions.get(node, 0), expected.executions.get(node, 0)
        yield from _compare(f"executions of node {node!r}", there, least)
    yield from _of_letters(run, expected.letter)


def _of_letters(run: RunFacts, expected: ExpectedLetter | None) -> Iterator[str]:
    yield from _compare("dead letters", len(run.letters), 0 if expected is None else 1)
    if expected is None:
        return
    for letter in run.letters:
        there = (letter.kind, letter.reason, letter.node)
        yield from _compare(
            "the letter's kind, reason and node",
            there,
            (expected.kind.value, expected.reason.value, expected.node),
        )
        if not letter.byte_exact:
            yield "the letter does not hold the event byte for byte"
        error = run.error
        told = error and (error.kind, error.reason, error.node, error.attempts, error.dlq_id)
        yield from _compare(
            "what the task's error carries", told, (*there, run.attempts, letter.dlq_id)
        )


def _compare(what: str, there: object, wanted: object) -> Iterator[str]:
    if there != wanted:
        yield f"{what}: {there}, expected {wanted}"
