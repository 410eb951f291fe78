"""Are all endings as they should be? Pure: a summary goes in, the differences come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from redrive.demo.plan import PLAN, ExpectedAnswer, ExpectedLetter, ExpectedRun
from redrive.demo.summary import AnswerFacts, CommandFacts, RunFacts, Summary

__all__ = ["differences"]


def differences(summary: Summary) -> tuple[str, ...]:
    """Return one line for each thing that is not as planned; none when all is well."""
    runs = {run.task: run for run in summary.runs}
    found: list[str] = []
    for expected in PLAN:
        run = runs.get(expected.task, RunFacts(expected.task))
        found += (f"{expected.task}: {line}" for line in _of_run(run, expected))
    found += _of_command(summary.command)
    return tuple(found)


def _of_run(run: RunFacts, expected: ExpectedRun) -> Iterator[str]:
    if run.event_id is None:
        yield "the task did not start"
        return
    yield from _compare("Airflow's state", run.state, expected.state)
    yield from _compare("records on the events topic", run.events, len(expected.answers))
    if not run.events_equal:
        yield "the event that was stored again has not the first one's key and value"
    yield from _of_answers(run.answers, expected.answers)
    executions = run.executions or {}
    for node in sorted({*executions, *expected.executions}):
        there, least = executions.get(node, 0), expected.executions.get(node, 0)
        yield from _compare(f"executions of node {node!r}", there, least)
    yield from _of_letters(run, expected.letter)


def _of_answers(
    there: tuple[AnswerFacts, ...], expected: tuple[ExpectedAnswer, ...]
) -> Iterator[str]:
    yield from _compare(
        "answers on the results topic",
        _row(one.status for one in there),
        _row(one.status.value for one in expected),
    )
    yield from _compare(
        "attempts", _row(one.attempts for one in there), _row(one.attempts for one in expected)
    )
    yield from _compare(
        "redrive counts of the answers",
        _row(one.redrive_count for one in there),
        _row(one.redrive_count for one in expected),
    )
    yield from _compare(
        "resumes verified by the worker",
        _row(one.resume_verified for one in there),
        _row(one.resume_verified for one in expected),
    )


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
        yield from _compare("the letter's state", letter.state, expected.state.value)
        error = run.error
        told = error and (error.kind, error.reason, error.node, error.attempts, error.dlq_id)
        attempts = run.answers[0].attempts if run.answers else None
        yield from _compare(
            "what the task's error carries", told, (*there, attempts, letter.dlq_id)
        )


def _of_command(command: CommandFacts | None) -> Iterator[str]:
    if command is None:
        yield "no letter was driven again"
    elif command.exit_code != 0:
        yield f"exit code of `{command.command}`: {command.exit_code}, expected 0"


def _row(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values) or "none"


def _compare(what: str, there: object, wanted: object) -> Iterator[str]:
    if there != wanted:
        yield f"{what}: {there}, expected {wanted}"
