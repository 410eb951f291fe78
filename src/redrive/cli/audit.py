"""`redrive doctor audit`: whether a deployment's own topics show that every promise was kept."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from redrive.auditing.topics_audit import audit as read_and_judge
from redrive.cli.audit_page import audit_json, audit_page, told_of
from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.letter_flags import parse_flag_time
from redrive.cli.output import note, print_json, status
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start
from redrive.clock import SYSTEM
from redrive.consumer.worker_settings import DeliveryGuarantee

__all__ = ["audit"]


def audit(
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only events from then on: 24h, 3d ago, or ISO 8601."),
    ] = None,
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Audit the topics for lost events, second results, wrong offsets and altered letters.

    Reads the events, results and letters topics and the group's commits; workers may go on
    meanwhile. Joins no group, commits nothing, changes nothing. Exits with 0 if nothing was found,
    with 1 if a promise was broken, with 2 if the audit could not run. Reports what it could not
    check, such as records that were already deleted.
    """
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})

    at_least_once = settings.worker.delivery is DeliveryGuarantee.AT_LEAST_ONCE
    from_then = None if since is None else parse_flag_time("since", since, SYSTEM.now())
    with_progress = sys.stderr.isatty()
    found = read_and_judge(
        settings.kafka,
        since=from_then,
        at_least_once=at_least_once,
        payloads=settings.security.payloads(),
        on_read=_tell if with_progress else lambda _topic, _records: None,
        verifier=settings.security.trust().verifier,
    )
    if with_progress:
        status()
    told = told_of(found, since=from_then)
    if as_json:
        print_json(audit_json(told))
    else:
        audit_page(told)
    if found.group is None and found.topics[0].total:
        raise CommandError(
            ExitCode.SETTINGS,
            f"group {settings.kafka.group_id!r} has committed nothing, so it is unknown which "
            "events have ended. Is kafka.group_id that of the workers?",
        )
    if told.counts:
        note(f"{told.counts.total()} finding(s)")
        raise typer.Exit(ExitCode.ENDED_BADLY)


def _tell(topic: str, records: int) -> None:
    status(f"{topic}: {records:,} records")
