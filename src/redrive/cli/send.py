"""`redrive send`: publish one event; with `--wait`, wait for its answer."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from redrive.cli.exits import CommandError, ExitCode, after_first_contact
from redrive.cli.flag_groups import grouped
from redrive.cli.output import note, print_json, say, visible
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start
from redrive.clock import SYSTEM
from redrive.errors import RecordError
from redrive.events import EventHeaders, Payload, WorkflowEvent, WorkflowResultEvent, extra_headers
from redrive.json_texts import parsed_json
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.existing import partitions_of
from redrive.kafka.expected import Expected
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.publish import Published, publish_event
from redrive.kafka.results import ResultReader
from redrive.payloads import Payloads
from redrive.sealed_records import opened_or_told
from redrive.signatures import Signer
from redrive.units import parse_duration

__all__ = ["send"]


@dataclass(frozen=True, slots=True)
class SendExtras:
    """What is sent beside the graph's input."""

    key: Annotated[
        str | None,
        typer.Option(
            help="The record's key. Default: the thread if there is one, otherwise the event's id."
        ),
    ] = None
    thread: Annotated[
        str | None, typer.Option(help="Run on this LangGraph thread, shared with other events.")
    ] = None
    metadata: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The event's metadata: an object, or @FILE."),
    ] = None
    run_config: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The event's payload.config: an object, or @FILE."),
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A header of the record. Can be repeated."),
    ] = None


@dataclass(frozen=True, slots=True)
class _ConfigKeys:
    """What signs the event, and what encrypts its payload and decodes the answer."""

    signer: Signer | None
    payloads: Payloads


@grouped
def send(
    workflow_id: Annotated[str, typer.Argument(help="The workflow to run.")],
    beside: SendExtras,
    data: Annotated[
        str,
        typer.Option(metavar="JSON", help="The graph's input: an object, or @FILE, or - (stdin)."),
    ] = "{}",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result.")] = False,
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="How long to wait.")] = "300s",
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Start a run: publish one event and print its id or, with --wait, its result."""
    patience = _duration(timeout)
    event = _event(workflow_id, _object(data, "--data"), beside)
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})
    with_keys = _ConfigKeys(settings.security.trust().signer, settings.security.payloads())
    if wait:
        _send_and_wait(settings.kafka, event, beside, with_keys, patience=patience, as_json=as_json)
        return
    _check(settings.kafka)
    with after_first_contact():
        stored = _publish(settings.kafka, event, beside, with_keys)
    if as_json:
        print_json(_stored(event, stored))
    else:
        note(f"stored at {stored}")
        say(event.event_id)


def _send_and_wait(
    kafka: KafkaSettings,
    event: WorkflowEvent,
    beside: SendExtras,
    with_keys: _ConfigKeys,
    *,
    patience: timedelta,
    as_json: bool,
) -> None:
    _check(kafka)
    reader = ResultReader(kafka)
    try:
        with after_first_contact():
            # Before the event is published: an answer cannot stand before this.
            ends = end_offsets(kafka)
            stored = _publish(kafka, event, beside, with_keys)
            note(f"event {event.event_id} is stored at {stored}; waiting for its result")
            expected = Expected(
                event.event_id,
                event.workflow_id,
                event.workflow_run_id,
                record=stored,
                must_name_record=kafka.require_answers,
            )
            answer = reader.wait_in_thread(expected, ends, SYSTEM.now() + patience)
    except TimeoutError as error:
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"{error}. The event stays stored: a worker that runs {event.workflow_id!r} answers it",
        ) from error
    finally:
        reader.close()

    answer, closed = opened_or_told(answer, with_keys.payloads)
    _print_answer(event, stored, answer, closed, as_json=as_json)


def _print_answer(
    event: WorkflowEvent,
    stored: Published,
    answer: WorkflowResultEvent,
    closed: str | None = None,
    *,
    as_json: bool,
) -> None:
    """Print it; `closed` says why it could not be decoded: then nothing says success."""
    if as_json:
        print_json(_stored(event, stored) | {"answer": answer.model_dump(mode="json")})
    elif answer.result is not None and closed is None:
        print_json(answer.result)
    if answer.status == "success" and closed is None:
        return
    reason = "" if answer.status == "success" else visible(answer.error or "no reason was given")
    lines = [f"the run ended as {answer.status}" + (f": {reason}" if reason else "")]
    info = answer.error_info
    if info is not None:
        node = f" in node {info.node!r}" if info.node else ""
        lines.append(f"{info.kind} ({info.reason}){node} after {info.attempts} attempt(s)")
        if info.dlq_id:
            lines.append(f"its dead letter: redrive dlq show {visible(info.dlq_id)}")
    if closed is not None:
        lines.append(f"its result cannot be shown: {visible(closed)}")
    raise CommandError(ExitCode.ENDED_BADLY, "\n".join(lines))


def _check(kafka: KafkaSettings) -> None:
    """Wait for the broker, and refuse a topic that is not there: publishing could create it."""
    partitions_of(kafka, kafka.events_topic)


def _publish(
    kafka: KafkaSettings, event: WorkflowEvent, beside: SendExtras, with_keys: _ConfigKeys
) -> Published:
    return publish_event(
        kafka,
        event,
        key=beside.key,
        headers=EventHeaders(thread=beside.thread),
        extra=_headers(beside),
        timeout=kafka.startup_timeout,
        signer=with_keys.signer,
        payloads=with_keys.payloads,
    )


def _stored(event: WorkflowEvent, stored: Published) -> dict[str, object]:
    return {
        "event_id": event.event_id,
        "topic": stored.topic,
        "partition": stored.partition,
        "offset": stored.offset,
    }


def _event(workflow_id: str, data: dict[str, object], beside: SendExtras) -> WorkflowEvent:
    event_id = SYSTEM.new_id()
    if not workflow_id:
        raise typer.BadParameter("is empty", param_hint="WORKFLOW_ID")
    if beside.thread is not None and not beside.thread.strip():
        raise typer.BadParameter("is empty", param_hint="--thread")
    _headers(beside)
    payload: dict[str, object] = {"data": data}
    if beside.run_config is not None:
        payload["config"] = _object(beside.run_config, "--run-config")
    return WorkflowEvent(
        event_id=event_id,
        timestamp=SYSTEM.now(),
        source="redrive-cli",
        workflow_id=workflow_id,
        workflow_run_id=event_id,
        payload=Payload.model_validate(payload),
        metadata={} if beside.metadata is None else _object(beside.metadata, "--metadata"),
    )


def _headers(beside: SendExtras) -> dict[str, str]:
    found = {}
    for header in beside.header or ():
        name, equals, value = header.partition("=")
        if not equals:
            raise typer.BadParameter(f"{header!r} is not NAME=VALUE", param_hint="--header")
        found[name] = value
    try:
        extra_headers(found)
    except RecordError as error:
        raise typer.BadParameter(str(error), param_hint="--header") from error
    return found


def _object(given: str, flag: str) -> dict[str, object]:
    try:
        if given == "-" and flag == "--data":
            text = sys.stdin.read()
        elif given.startswith("@"):
            text = Path(given[1:]).read_text(encoding="utf-8")
        else:
            text = given
        found = parsed_json(text)
    except OSError as error:
        raise typer.BadParameter(f"cannot be read: {error}", param_hint=flag) from error
    except ValueError as error:
        raise typer.BadParameter(f"is not JSON: {error}", param_hint=flag) from error
    if not isinstance(found, dict):
        raise typer.BadParameter('is not an object: {"…": …}', param_hint=flag)
    return found


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from error
