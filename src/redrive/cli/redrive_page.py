"""What a redrive would do, did, and came to: in words, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.output import note, print_table, say, visible
from redrive.dead_letter.redacted_text import BUILT_IN
from redrive.redriving.deciding import Send
from redrive.redriving.following import RunEnding
from redrive.redriving.redrive_report import Done, Report

__all__ = ["ending_line", "judge", "plan_page", "report_json", "report_page"]


def plan_page(plan: Report) -> None:
    """Say how many letters would be driven, which nodes run again, and what is refused."""
    again = Counter(_again(done) for done in plan.done)
    rows = [[str(count), mode, where] for (mode, where), count in sorted(again.items())]
    if rows:
        print_table(["letters", "mode", "runs again"], rows)
    say(f"{len(plan.done)} letter(s) to redrive, {len(plan.refused)} refused")
    _refusals(plan)


def report_page(report: Report, verb: str) -> None:
    """Say what was done, and what was not."""
    say(f"{len(report.done)} letter(s) {verb}, {len(report.refused)} refused")
    _refusals(report)
    for line in _troubles(report):
        note(visible(line))


def ending_line(ending: RunEnding) -> str:
    """Return one line about how a driven run ended."""
    answer, entry = ending.answer, ending.entry
    line = f"{answer.status.value}  {entry.event_id}  of letter {entry.dlq_id}"
    info, run = answer.error_info, answer.run
    if info is not None:
        line += f"  {info.reason.value}: {info.type}" + (f" in {info.node}" if info.node else "")
        line += f"  new letter {info.dlq_id}" if info.dlq_id else ""
    if run is not None and run.resume_verified is False:
        line += "  (finished nodes ran again, or the failed one did not: see the worker's log)"
    return visible(line)


def report_json(report: Report, endings: list[RunEnding] | None = None) -> dict[str, object]:
    """Return the report for programs, masked."""
    told: dict[str, object] = {
        "done": [_done(done) for done in report.done],
        "refused": [
            {
                "dlq_id": no.entry.dlq_id,
                "event_id": no.entry.event_id,
                "refusal": no.refusal.value,
                "why": no.why,
            }
            for no in report.refused
        ],
        "unknown": sorted(report.unknown),
        "taken_over": [
            {
                "partition": taken.partition,
                "by": taken.by,
                "at": None if taken.at is None else taken.at.isoformat(),
            }
            for taken in report.taken_over
        ],
        "stopped": report.stopped,
    }
    if endings is not None:
        told["endings"] = [
            {"dlq_id": end.entry.dlq_id} | end.answer.model_dump(mode="json", exclude={"result"})
            for end in endings
        ]
    return BUILT_IN.within(told)


def judge(report: Report, endings: list[RunEnding] | None = None) -> None:
    """Raise the error with which the command ends, if not all went well."""
    lines = list(map(visible, _troubles(report)))
    if report.taken_over:
        raise CommandError(ExitCode.FENCED, "\n".join(lines))
    if not report.done and report.refused:
        lines.append("nothing was done")
    if endings is not None:
        driven = sum(isinstance(d.what, Send) and d.entry.event_id is not None for d in report.done)
        bad = sum(not end.succeeded for end in endings)
        if bad:
            lines.append(f"{bad} of {driven} redriven run(s) did not succeed")
        if len(endings) < driven:
            lines.append(f"{driven - len(endings)} redriven run(s) have not ended yet")
    if lines:
        raise CommandError(ExitCode.ENDED_BADLY, "\n".join(lines))


def _refusals(report: Report) -> None:
    counts = Counter(no.refusal.value for no in report.refused)
    example = {no.refusal.value: no for no in reversed(report.refused)}
    if counts:
        rows = [
            [str(n), why, _example(example[why].entry.dlq_id, example[why].why)]
            for why, n in sorted(counts.items())
        ]
        print_table(["refused", "why", "for example"], rows)


def _example(dlq_id: str, why: str) -> str:
    return f"{dlq_id}: {why}"


def _troubles(report: Report) -> Iterator[str]:
    for taken in report.taken_over:
        by = taken.by or "a redrive that has not written anything yet"
        when = "" if taken.at is None else f" (at {taken.at:%H:%M:%S} UTC)"
        yield f"partition {taken.partition} of the letters was taken over by {by}{when}"
    if report.stopped is not None:
        yield f"stopped: {report.stopped}"
    if report.unknown:
        yield f"no letter has the id {', '.join(sorted(report.unknown))}"


def _again(done: Done) -> tuple[str, str]:
    assert isinstance(done.what, Send)  # noqa: S101 - a plan is one of redrives
    if done.what.mode == "restart" or not done.entry.checkpoint:
        return done.what.mode, "all nodes"
    return done.what.mode, f"{done.entry.node or 'the next node'} and the nodes after it"


def _done(done: Done) -> dict[str, object]:
    told: dict[str, object] = {"dlq_id": done.entry.dlq_id, "event_id": done.entry.event_id}
    match done.what:
        case Send(mode, count):
            return told | {"mode": mode, "redrive_count": count, "node": done.entry.node}
        case moved:
            return told | {"state": moved.state.value}
