"""Whatever way others' text takes to a terminal, nothing in it is obeyed, and nothing is hidden."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import typer
from rich.text import Text
from tests.rows import rows

from redrive.auditing.audit_findings import Finding as Broken
from redrive.cli import (
    audit,
    audit_page,
    dlq_edit,
    dlq_stats,
    doctor,
    redrive_page,
    send,
    topics,
)
from redrive.cli.app import _Commands, main
from redrive.cli.exits import CommandError, ExitCode, report
from redrive.cli.findings import DoctorFinding as Found
from redrive.cli.findings import FindingLevel
from redrive.cli.judged_page import Judged, judged_page
from redrive.cli.letter_page import letter_page
from redrive.cli.letters_table import print_groups, print_letters
from redrive.cli.output import console, note, print_json, print_lines, print_table, say, status
from redrive.cli.run_page import run_page
from redrive.cli.threads_table import print_threads
from redrive.dead_letter.states import LetterState, State
from redrive.errors import RecordError, RedriveError, SettingsError
from redrive.events import ErrorInfo, ResultStatus, WorkflowResultEvent
from redrive.graphs.checkpoint_file import Space
from redrive.graphs.retention import StoredThread
from redrive.kafka.log import TopicPartition
from redrive.kafka.topic_admin import TopicReport
from redrive.kafka.topic_rules import Severity
from redrive.kafka.topic_rules import TopicFinding as OfTopic
from redrive.redriving import LetterSummary, group
from redrive.redriving.deciding import Refusal
from redrive.redriving.following import RunEnding
from redrive.redriving.letters_topic import LetterStory, StoredLetter
from redrive.redriving.partition import Entry
from redrive.redriving.redrive_report import Refused, Report, TakenOver
from redrive.redriving.run_stories import RunResult, RunStory
from redrive.retry.kinds import Kind, Reason
from redrive.telemetry.logging import configure_logging
from redrive.testing import event
from redrive.testing.stored_letters import dead_letter
from redrive.wiring import process
from redrive.wiring.freeing import StoredFile

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
# Sequences that terminals obey, line ends, marks that turn or hide text, half a character.
EVIL = (
    "\x1b[2J\x1b[31m\x1b]0;title\x07\x1b]8;;http://x\x07\x9b1A\x90q\r\x08\x0b\x0c\x7f\x00\x85"
    "\u202e\u202d\u2066\u2067\u2069\u200e\u200f\u061c\u200b\u200c\u200d\u2060\ufeff\u00ad\u2028\u2029"
    "\U000e0041\ufff9\ud800"
)
TEXT = f"begin{EVIL}end"
FORGED = f"{TEXT}\nredrive: all is well"


LETTER = LetterSummary(
    dlq_id=TEXT,
    event_id=TEXT,
    workflow=TEXT,
    kind=Kind.PERMANENT,
    reason=Reason.PERMANENT,
    node=TEXT,
    fingerprint=TEXT,
    error_type=TEXT,
    message=TEXT,
    at=NOON,
    redrive_count=0,
    partition=3,
    offset=5,
)


def story() -> LetterStory:
    letter = dead_letter(event({"k": TEXT.replace("\ud800", "")}), topic=TEXT.replace("\ud800", ""))
    letter = letter.model_copy(
        update={
            "dlq_id": TEXT,
            "node": TEXT,
            "fingerprint": TEXT,
            "error": letter.error.model_copy(
                update={"type": TEXT, "message": TEXT, "traceback": TEXT}
            ),
        }
    )
    state = LetterState(
        dlq_id="a", event_id="e", state=State.PARKED, timestamp=NOON, actor=TEXT, reason=TEXT
    )
    return LetterStory(StoredLetter(partition=0, offset=0, letter=letter), (state,))


def answer(**more: object) -> WorkflowResultEvent:
    info = ErrorInfo(
        kind=Kind.PERMANENT,
        type=TEXT,
        message=TEXT,
        reason=Reason.PERMANENT,
        node=TEXT,
        attempts=1,
        exhausted=False,
        dlq_id=TEXT,
    )
    facts: dict[str, Any] = {
        "correlation_id": TEXT,
        "workflow_id": TEXT,
        "workflow_run_id": None,
        "status": ResultStatus.ERROR,
        "timestamp": NOON,
        "error": FORGED,
        "error_info": info,
    }
    return WorkflowResultEvent.model_construct(None, **facts | more)


def entry() -> Entry:
    fields: dict[str, Any] = dict.fromkeys(Entry._fields, TEXT)
    return Entry(**fields)


def driven() -> Report:
    found = Report(refused=[Refused(entry(), Refusal.NOT_READABLE, TEXT)])
    found.taken_over.append(TakenOver(1, TEXT, None))
    found.unknown, found.stopped = frozenset({TEXT}), TEXT
    return found


def raised(call: Callable[[], object]) -> None:
    with pytest.raises(RedriveError) as ended:
        call()
    report(ended.value)


def thread() -> None:
    stored = StoredThread(thread_id=TEXT, event_id=TEXT, last_id="1", last_at=NOON)
    file = StoredFile(Path(TEXT), Space(1, 1, 1, shrinks=True), (stored,), ())
    print_threads(file, [stored], [stored], NOON)


def run_story() -> RunStory:
    result = RunResult(TopicPartition(TEXT, 0), 1, answer())
    return RunStory(TEXT, (), (result,), (story(),))


def audited() -> None:
    judge = SimpleNamespace(
        events=Counter({TEXT: 1}),
        results=Counter(),
        letters=Counter({TEXT: 1}),
        states=Counter(),
        encrypted=Counter({TEXT: 1}),
    )
    found = Broken("P1", TEXT, event_id=TEXT, tp=TopicPartition(TEXT, 0), offset=1)
    read: Any = SimpleNamespace(judge=judge, topics=[])
    audit_page.audit_page(
        audit_page.FinishedAudit(read, None, Counter(P1=1), (found,), (TEXT,), (TEXT,))
    )


def usage_error() -> None:
    app = typer.Typer(cls=_Commands, pretty_exceptions_enable=False)

    @app.command()
    def one() -> None:
        raise typer.BadParameter(FORGED, param_hint="--x")

    app.command("two")(one)
    with pytest.raises(SystemExit):
        app(["one"])


def fail(**_: object) -> None:
    raise ZeroDivisionError(FORGED)


def bug() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redrive.cli.app.app", fail)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1


def debugged() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDRIVE_DEBUG", "1")
        report(SettingsError(TEXT))


def logged(say_it: Callable[[Any], object], *, as_json: bool = False) -> Callable[[], None]:
    def call() -> None:
        configure_logging(json=as_json)
        try:
            fail()
        except ZeroDivisionError:
            say_it(structlog.get_logger("redrive.test"))

    return call


def ended_now() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_end_now", lambda _: None)
        process._say_and_end(SettingsError(TEXT), 2)  # noqa: SLF001 - it ends the process else


def topic_report() -> TopicReport:
    found = OfTopic(TEXT, TEXT, TEXT, TEXT, TEXT, Severity.ERROR)
    return TopicReport((found,), {TEXT: 1}, {TEXT: 2})


WAYS: dict[str, Callable[[], object]] = {
    "say": lambda: say(TEXT),
    "note": lambda: note(TEXT),
    "status": lambda: status(TEXT),
    "json": lambda: print_json({TEXT: [TEXT, {TEXT: TEXT}]}),
    "a table": lambda: print_table(["x"], [[TEXT]]),
    "lines": lambda: print_lines([[TEXT, TEXT]]),
    "rich text": lambda: console(force_terminal=False).print(Text(TEXT)),
    "rich markup": lambda: console().print(TEXT, markup=False),
    "an error": lambda: report(SettingsError(TEXT)),
    "an error of a command": lambda: report(CommandError(ExitCode.ENDED_BADLY, TEXT)),
    "an error with REDRIVE_DEBUG": debugged,
    "a usage error": usage_error,
    "a bug": bug,
    "a worker's last line": ended_now,
    "a log's event": logged(lambda log: log.error(TEXT)),
    "a log's value": logged(lambda log: log.error("x", value=FORGED)),
    "a log's name of a value": logged(lambda log: log.error("x", **{TEXT: 1})),
    "a log's list": logged(lambda log: log.error("x", value=[TEXT, {TEXT: (TEXT,)}])),
    "a log's object": logged(lambda log: log.error("x", value=SimpleNamespace(a=TEXT))),
    "a log's traceback": logged(lambda log: log.error("x", exc_info=True)),  # noqa: LOG014 - it is called in one
    "a library's log": logged(lambda _: logging.getLogger("lib").warning("x %s", FORGED)),
    "a library's traceback": logged(lambda _: logging.getLogger("lib").error("x", exc_info=True)),  # noqa: LOG014 - as above
    "a log in JSON": logged(lambda log: log.error(TEXT, value=TEXT), as_json=True),
    "a letter": lambda: letter_page(story(), topic=TEXT, reveal=False),
    "a letter's event": lambda: letter_page(story(), topic=TEXT, reveal=True),
    "a list of letters": lambda: print_letters([LETTER], NOON),
    "groups of letters": lambda: print_groups(group([LETTER], NOON), NOON),
    "a run": lambda: run_page(run_story()),
    "a plan": lambda: redrive_page.plan_page(driven()),
    "a report": lambda: redrive_page.report_page(driven(), "sent"),
    "a redrive's errors": lambda: raised(lambda: redrive_page.judge(driven())),
    "a redrive's errors, not fenced": lambda: raised(
        lambda: redrive_page.judge(Report(stopped=FORGED, unknown=frozenset({FORGED})))
    ),
    "how a driven run ended": lambda: note(redrive_page.ending_line(RunEnding(entry(), answer()))),
    "send --wait": lambda: raised(
        lambda: send._print_answer(event({}), Any, answer(), as_json=False)  # type: ignore[arg-type]  # noqa: SLF001
    ),
    "send --wait with a result": lambda: raised(
        lambda: send._print_answer(event({}), Any, answer(result={TEXT: TEXT}), as_json=False)  # type: ignore[arg-type]  # noqa: SLF001
    ),
    "dlq edit": lambda: report(dlq_edit._not_sent(RecordError(FORGED), remedy="x")),  # noqa: SLF001
    "doctor": lambda: doctor._print({"graphs": [Found(FindingLevel.ERROR, TEXT, TEXT)], TEXT: []}),  # noqa: SLF001
    "doctor audit": audited,
    "doctor audit's progress": lambda: audit._tell(TEXT, 1),  # noqa: SLF001
    "topics verify": lambda: topics._print(topic_report()),  # noqa: SLF001
    "checkpoints list": thread,
    "a judged error": lambda: judged_page(
        Judged(
            TEXT,
            SimpleNamespace(kind=Kind.PERMANENT, why=TEXT, rule=TEXT, retry_after=None),  # type: ignore[arg-type]
            TEXT,
            SimpleNamespace(waits=(), end=SimpleNamespace(reason=Reason.PERMANENT, why=TEXT)),  # type: ignore[arg-type]
        )
    ),
    "dlq stats": lambda: dlq_stats._print(  # noqa: SLF001
        SimpleNamespace(open=1, per_minute=0.0, oldest_open=None, retention_used=0.0),  # type: ignore[arg-type]
        [TEXT],
    ),
}
# What a command itself sends: `status` begins its line anew.
OURS = ("\r\x1b[K",)


@pytest.fixture
def screens(own_logging: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Catch both streams, as they would be written."""
    del own_logging
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "400")

    def of(call: Callable[[], object]) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            call()
            logging.shutdown()
        return out.getvalue()

    return of  # type: ignore[return-value]


@pytest.mark.invariant("P15")
@rows("way", list(WAYS.items()), ids=lambda row: row[0])
def test_no_way_to_a_terminal_lets_a_text_command_it(
    way: tuple[str, Callable[[], object]], screens: Callable[[Callable[[], object]], str]
) -> None:
    assert len(WAYS) >= 25

    shown = screens(way[1])

    for own in OURS:
        shown = shown.replace(own, "")
    raw = {c for c in shown if not c.isprintable() and c != "\n"}
    assert raw == set(), ascii(shown)
    assert "begin" in shown
    assert "\\x1b" in shown or "\\u001b" in shown
    assert not any(line.startswith("redrive: all is well") for line in shown.split("\n"))


def test_what_is_printable_is_shown_as_it_is(
    screens: Callable[[Callable[[], object]], str],
) -> None:
    plain = "täglich 日本語 🔑 [x] \\x1b"

    assert screens(lambda: say(plain)) == f"{plain}\n"
    assert json.loads(screens(lambda: print_json([plain]))) == [plain]
    assert "täglich 日本語 🔑" in screens(lambda: print_json([plain]))


def test_styles_are_put_around_what_was_escaped() -> None:
    out = io.StringIO()
    screen = console(file=out, force_terminal=True, color_system="standard", width=80)

    screen.print(Text("a\x1b[5mb", style="bold red"))

    assert out.getvalue() == "\x1b[1;31ma\\x1b[5mb\x1b[0m\n"


SOURCES = Path(__file__).parents[2] / "src" / "redrive"


def test_nothing_else_writes_to_a_terminal() -> None:
    """The table above can be whole only while there is one place that writes."""
    allowed = {"cli/output.py", "cli/reference.py", "wiring/process.py", "cli/dlq_export.py"}
    found = set()
    for folder in ("cli", "demo", "wiring", "consumer", "redriving", "notify", "auditing"):
        for file in (SOURCES / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and _writes(ast.unparse(node.func)):
                    found.add(str(file.relative_to(SOURCES)))

    assert found - allowed == {"cli/dlq_stats.py"}  # text for Prometheus, of our own names


def _writes(call: str) -> bool:
    return call in {
        "print",
        "Console",
        "typer.echo",
        "typer.secho",
        "typer.confirm",
        "typer.prompt",
        "sys.stdout.write",
        "sys.stderr.write",
        "sys.stdout.writelines",
        "sys.stderr.writelines",
        "sys.excepthook",
        "traceback.print_exc",
    }
