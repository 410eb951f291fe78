"""`redrive demo`: Airflow, Kafka and LangGraph at work together, on this machine."""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import typer

from redrive.cli.exits import ExitCode
from redrive.cli.output import console, note, print_json
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start
from redrive.demo.closing import close, show_next_steps
from redrive.demo.demo_verdict import differences
from redrive.demo.environment import demo_topics
from redrive.demo.play import play
from redrive.demo.summary import Summary
from redrive.errors import KafkaUnavailableError, MissingExtraError, SettingsError
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.telemetry.logging import configure_logging

__all__ = ["demo"]

_NEEDED = (
    ("langgraph", "langgraph", "worker"),
    ("aiosqlite", "langgraph-checkpoint-sqlite", "worker"),
    ("airflow", "apache-airflow", "airflow"),
)


def demo(
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Watch a real DAG through a success, a transient failure and a dead letter (30 seconds).

    Starts a worker, an Airflow in a temporary folder and the broker inside the confluent-kafka
    wheel, and stops them all at the end. The failure leaves a dead letter: its cause is fixed, and
    `redrive dlq redrive` sends it back, to resume from the node that failed.

    With --bootstrap-servers the demo uses your broker, and topics named redrive-demo-… on it: only
    a real broker can show exactly once. --json prints the outcome on stdout and everything else on
    stderr.
    """
    for module, package, extra in _NEEDED:
        if find_spec(module) is None:
            raise MissingExtraError(module=package, extra=extra)
    given = _broker(bootstrap_servers, config)
    folder = Path(tempfile.mkdtemp(prefix="redrive-demo-"))
    kept = True
    try:
        differences = _play(given, folder, as_json=as_json)
        kept = bool(differences)
    except (KafkaUnavailableError, KeyboardInterrupt, SettingsError):
        kept = False
        raise
    finally:
        if kept:
            logs = ", ".join(sorted(file.name for file in folder.glob("*.log")))
            note(f"redrive: the logs are kept in {folder}: {logs}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if differences:
        raise typer.Exit(ExitCode.ENDED_BADLY)


def _broker(bootstrap_servers: str | None, config: Path | None) -> KafkaSettings | None:
    if bootstrap_servers is None:
        # No settings are read: what is set up for another broker must not reach the demo.
        configure_logging(level="CRITICAL")
        return None
    return start(config, {"kafka.bootstrap_servers": bootstrap_servers}).kafka


def _play(given: KafkaSettings | None, folder: Path, *, as_json: bool) -> tuple[str, ...]:
    # With --json, stdout is for the summary alone.
    screen = console(stderr=as_json, highlight=False)
    summary = play(given, console=screen, folder=folder)
    found = differences(summary)
    close(summary, screen, differences=found)
    if not found:
        show_next_steps(summary, screen, kafka=given and demo_topics(given))
    if as_json:
        print_json(_json(summary, found))
    for line in found:
        note(f"redrive: unexpected: {line}")
    return found


def _json(summary: Summary, found: tuple[str, ...]) -> dict[str, object]:
    return {"ok": not found, "differences": list(found), **summary.as_json()}
