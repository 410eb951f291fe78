"""`redrive checkpoints`: which threads the file of checkpoints holds, and freeing them."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.flag_groups import grouped
from redrive.cli.letter_flags import Yes
from redrive.cli.output import agreed, note, print_json
from redrive.cli.shared_flags import BrokerFlags, Config, Json, start
from redrive.cli.threads_table import (
    chosen,
    file_json,
    freed_json,
    plan_json,
    print_deletion,
    print_freed,
    print_plan,
    print_threads,
    thread_json,
)
from redrive.clock import SYSTEM
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.graphs.retention import ThreadState, Wish
from redrive.settings import Settings
from redrive.thread_names import scoped_thread
from redrive.units import parse_duration
from redrive.wiring.freeing import (
    Freed,
    FreeingPlan,
    StoredFile,
    free,
    plan_deletion,
    plan_freeing,
    read_file,
)

__all__ = ["app"]

app = typer.Typer(help="List and delete checkpoints.", no_args_is_help=True)

OlderThan = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="Only threads without a new checkpoint for this long: 12h, 7d."
    ),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks to be deleted."""

    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Threads without a new checkpoint for this long: 12h, 7d. Default: "
            "`checkpoints.ttl`.",
        ),
    ] = None
    questions: Annotated[
        bool, typer.Option("--questions", help="Also threads that wait for a person's answer.")
    ] = False
    named: Annotated[
        bool, typer.Option("--named", help="Also threads that a producer named (redrive-thread).")
    ] = False

    def wish(self, settings: CheckpointSettings) -> Wish:
        """Return it as a value."""
        idle = _duration(self.older_than)
        return Wish(settings.ttl if idle is None else idle, self.questions, self.named)


@app.command("list")
def list_threads(
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="Only threads in this state: running, finished, letter, question, named or "
            "unknown.",
        ),
    ] = None,
    older_than: OlderThan = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the threads in the checkpoint file, the longest idle first. Reads only the file.

    running: a checkpoint was stored in the last half hour. finished: the run has ended, and the
    thread is deleted after `checkpoints.ttl`. letter: the run ended in a dead letter. question: the
    thread waits for a person's answer. named: a producer chose the name. unknown: the run was
    abandoned.
    """
    wanted, idle = _state(state), _duration(older_than)
    settings = start(config, {}).checkpoints
    file = _file(settings)

    now = SYSTEM.now()
    found = chosen(file.threads, now, state=wanted, idle=idle)
    some = found[:limit]
    if as_json:
        threads = [thread_json(thread, now) for thread in some]
        print_json({"threads": threads, "total": len(found), "file": file_json(file)})
    else:
        print_threads(file, some, found, now)


@app.command("sweep")
@grouped
def sweep(
    asked: Asked,
    broker: BrokerFlags,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete the threads that neither a running event nor a letter needs, and shrink the file.

    Reads the topics: a thread stays while its event is unfinished and while its letter can be
    redriven. Letters that were discarded, resolved or deleted by retention need no thread. Workers
    may go on meanwhile.
    """
    settings = broker.settings()
    wish = asked.wish(settings.checkpoints)
    file = _file(settings.checkpoints)

    plan = plan_freeing(settings, file, wish)
    if not as_json:
        print_plan(plan)
    freed = _delete(settings, plan, dry_run=dry_run, yes=yes, as_json=as_json)
    if freed is not None and freed.problem is not None:
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"the threads were deleted, but {str(file.path)!r} was not made smaller: "
            f"{freed.problem}. This needs twice the space of the file's contents; run it again",
        )


@app.command("delete")
@grouped
def delete(
    names: Annotated[
        list[str], typer.Argument(metavar="THREAD", help="Names of threads, as `list` shows them.")
    ],
    broker: BrokerFlags,
    *,
    scope: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE", help="The scope of the names: that of the producers that chose them."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete even if a run may need them; no topic is read.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete threads by name, whatever their age, to forget a conversation.

    Refused while an unfinished event uses one of them. A letter whose run stopped on such a thread
    can then be restarted but not resumed. Workers may go on meanwhile.
    """
    settings = broker.settings()
    file = _file(settings.checkpoints)

    threads = names if scope is None else [_scoped(settings, scope, name) for name in names]
    plan = plan_deletion(settings, file, threads, force=force)
    if missing := sorted({*threads} - {one.thread_id for one in plan.threads}):
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"{str(file.path)!r} holds no thread {', '.join(map(repr, missing))}: "
            "`redrive checkpoints list` shows their names",
        )
    if plan.in_use:
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"an open run works on {', '.join(map(repr, plan.in_use))}: wait until it has ended, "
            "or stop the workers and give --force",
        )
    if not as_json:
        print_deletion(plan)
    freed = _delete(settings, plan, dry_run=dry_run, yes=yes, as_json=as_json)
    if freed is not None and freed.threads < len(plan.threads):
        raise CommandError(
            ExitCode.ENDED_BADLY, "a run has used some of them meanwhile: run this again"
        )


def _delete(
    settings: Settings, plan: FreeingPlan, *, dry_run: bool, yes: bool, as_json: bool
) -> Freed | None:
    """Delete what the plan names, once somebody has agreed; None where nothing was deleted."""
    if dry_run:
        if as_json:
            print_json(plan_json(plan))
        return None
    if not _agreed(len(plan.threads), yes=yes, as_json=as_json):
        return None
    freed = asyncio.run(free(settings.checkpoints, plan))
    if as_json:
        print_json(plan_json(plan) | freed_json(freed))
    else:
        print_freed(plan, freed)
    return freed


def _scoped(settings: Settings, value: str, name: str) -> str:
    if settings.threads.scope is None:
        raise typer.BadParameter("no scope is set (threads.scope)", param_hint="--scope")
    return scoped_thread(settings.threads.scope, value, name)


def _agreed(count: int, *, yes: bool, as_json: bool) -> bool:
    if yes or not count:
        return True
    if as_json or not sys.stdin.isatty():
        raise CommandError(
            ExitCode.SETTINGS,
            "there is no terminal to ask for confirmation: give --yes or --dry-run",
        )
    return agreed(f"Delete the checkpoints of {count} thread(s)? This cannot be undone.")


def _file(settings: CheckpointSettings) -> StoredFile:
    file = read_file(settings)
    if file is None:
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"there are no checkpoints at {settings.url!r} (checkpoints.url): run this where the "
            "workers run, with their settings",
        )
    for one in file.deployments:
        if one.kept.events is None or one.kept.letters is None:
            note(
                f"a topic of {one.name!r} keeps its records for ever, or does not say how long: "
                "workers delete only threads of finished runs"
            )
    return file


def _state(text: str | None) -> ThreadState | None:
    if text is None:
        return None
    try:
        return ThreadState(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is none of {', '.join(ThreadState)}", param_hint="--state"
        ) from None


def _duration(text: str | None) -> timedelta | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from error
