"""Everything that parses what comes from outside, each with valid inputs, and what it may raise."""

from __future__ import annotations

import json
import random
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import typer
from tests.property.hostile_records import changed
from tests.property.test_hostile_records import wholes as records

from redrive.airflow import run_answers
from redrive.airflow.compat import _extra
from redrive.airflow.connection import id_secret, kafka_settings, signer_of
from redrive.cli import letter_flags
from redrive.cli.send import _object
from redrive.codec import AesGcm
from redrive.dead_letter.audit_chain import AuditChain, audit_record
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.sealing import opened_letter, sealed_letter
from redrive.dead_letter.source import unpacked
from redrive.dead_letter.spool import SpooledLetter, read_spool
from redrive.dead_letter.states import STATE_HEADERS, read_letter
from redrive.errors import CodecError, RecordError, SettingsError
from redrive.events import (
    EventHeaders,
    WorkflowEvent,
    WorkflowResultEvent,
    readable_event_id,
    said_by,
    thread_scope,
)
from redrive.graphs.langgraph_json import read_langgraph_json
from redrive.graphs.patterns import serving
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.expected import Expected
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.signed import judged
from redrive.payloads import Payloads, key_bytes
from redrive.redriving.audit_check import NotedHead
from redrive.redriving.editing import Change, check_event, compact, pretty, set_values
from redrive.redriving.extracts import descent_of, event_id_in, read_slimly
from redrive.redriving.query import Query, page_of
from redrive.redriving.sealed_events import open_text, opened_draft, sealed_draft
from redrive.retry.retry_after import limit_reset_of, parse_retry_after, retry_after_of
from redrive.sealed_records import opened_event, opened_result, sealed_event, sealed_result
from redrive.secret_values import is_reference
from redrive.settings import load_with_origins
from redrive.settings_report import holding
from redrive.signatures import Signer, Subject, Verifier
from redrive.state.commit_metadata import (
    CommitMetadata,
    LogIdentity,
    OffsetEntry,
    StoredRest,
    decode,
    encode,
)
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock
from redrive.testing.stored_letters import dead_letter
from redrive.thread_names import owner_in, producers_name
from redrive.units import parse_duration, parse_size

__all__ = ["PARSERS", "Parser", "hostile_inputs"]

Parse = Callable[[bytes], object]

NOW = datetime(2026, 11, 29, tzinfo=UTC)
PLACE = TopicPartition("workflow-events", 3)
PAYLOADS = Payloads(AesGcm({"k": bytes(32)}))
SIGNER = Signer("k", b"s" * 32)
VERIFIER = Verifier({"k": b"s" * 32})
CLOCK = ManualClock()


@dataclass(frozen=True, slots=True)
class Parser:
    """One of them.

    Args:
        name: What it reads.
        parse: Reads it, and does with it what its callers do first.
        wholes: Inputs that are right.
        refusals: What it may raise.
    """

    name: str
    parse: Parse
    wholes: Sequence[bytes]
    refusals: tuple[type[Exception], ...] = ()


DEEP = 100_000
MAX_ANSWER_CHARS = 20_000
"""Of headers, and of what is read of a message: clients and `answer_text` take no more."""
HAND_MADE = (
    *(b"", b" ", b"\0", b"null", b"true", b"{}", b"[]", b'""', b"{", b"[", b'"', b"NaN", b"-"),
    *(b"Infinity", b"-Infinity", b"1e999", b"-0", b"0x10", b"1_0", b"\xff", b"\xed\xa0\x80"),
    *(b"\xef\xbb\xbf{}", b'"\\ud800"', b'{"a":1,"a":2}', b"9" * 5_000, b"-" + b"9" * 5_000),
    *(b"9" * 4_300, b'{"a":' + b"9" * 5_000 + b"}", b"[" * DEEP, b'{"a":' * DEEP, b"(" * DEEP),
    *(b"[" * DEEP + b"]" * DEEP, b'{"a":' * 500 + b"1" + b"}" * 500, b"a." * 4_000),
    *(b"a" * 100_000, b" " * 100_000, b"1" * 100_000, b"=" * 50_000, b"," * 50_000),
    *(b"1s " * 50_000, b"1 " * 50_000 + b"x", b"a" * 50_000 + b"!", b"\\" * 50_000),
    *(
        b'"' * 50_000,
        b"%25" * 30_000,
        b"*a" * 5_000,
        "\u0661\u0662".encode(),
        "\uff11s".encode(),
    ),
    *(b"inf", b"nan", b"1e308s", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59"),
    *(b"Mon, 99 Foo 99999 99:99:99 GMT", b"\r\nx: y", b"a\0b", b"../../etc/passwd", b"file:/etc/x"),
    *(b"a=" + b"[" * DEEP, b"a=" + b"{a=" * DEEP, b"[kafka.config]\n" + b"a." * 2_000 + b"a=1"),
    *(b"GRAPHS=" + b'{"a":' * DEEP, b"KAFKA__CONFIG" + b"__A" * 5_000 + b"=x", b"\xc2\xb2"),
    *("\u202e".encode(), "\u2028".encode(), "İ".encode(), "ß".encode() * 10_000),
)


def hostile_inputs(wholes: Sequence[bytes], count: int, dice: random.Random) -> Iterator[bytes]:
    """Yield so many: those that were made by hand, and mutations of the valid ones."""
    for number in range(count):
        if number < len(HAND_MADE):
            yield HAND_MADE[number]
            continue
        whole = dice.choice(wholes)
        if dice.random() < 0.5 and whole[:1] in b"{[" and whole:
            with suppress(ValueError, UnicodeDecodeError):
                made = changed(json.loads(whole), dice)
                # As Python writes it: with NaN, Infinity, and halves of characters escaped.
                yield json.dumps(made).encode()
                continue
        yield _bytewise(whole, wholes, dice)


def _bytewise(whole: bytes, wholes: Sequence[bytes], dice: random.Random) -> bytes:
    out = bytearray(whole)
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        at = dice.randrange(len(out) + 1)
        match dice.randrange(7):
            case 0:
                del out[at : at + dice.randrange(1, 20)]
            case 1:
                out[at:at] = dice.randbytes(dice.randrange(1, 9))
            case 2:
                del out[at:]
            case 3:
                out[at : at + 1] = bytes([dice.randrange(256)])
            case 4:
                out[at:at] = out[at : at + dice.randrange(1, 40)] * dice.choice((2, 10, 300))
            case 5:
                other = dice.choice(wholes)
                start = dice.randrange(len(other) + 1)
                out[at:at] = other[start : start + 40]
            case _:
                out[at:at] = dice.choice(HAND_MADE)[:400]
    return bytes(out)


def _text(value: bytes) -> str:
    """Return bytes as a command line or the environment gives them: halves of characters too."""
    return value.decode("utf-8", "surrogateescape")


def _of_text(parse: Callable[[str], object]) -> Parse:
    return lambda value: parse(_text(value))


# Records.


def _record(value: bytes, *headers: tuple[str, bytes | None]) -> ConsumerRecord:
    return ConsumerRecord(PLACE, 7, b"key", value, headers, 1_700_000_000_000)


def _event(value: bytes) -> object:
    readable_event_id(value)
    sent = WorkflowEvent.from_bytes(value)
    with suppress(RecordError):
        thread_scope(EventHeaders(thread="t"), sent, "metadata.tenant.a")
    serving(sent.workflow_id, ("a*b*c*", "[!a]*", "x"))
    return said_by(sent), sent.to_bytes() if _is_clean(value) else None


def _is_clean(value: bytes) -> bool:
    return b"\\ud" not in value.lower()


HEADERS = [
    [f"redrive-{name}", value]
    for name, value in (
        *(("thread", "chat-7"), ("generation", "1"), ("attempt", "2"), ("not-before", "17")),
        *(("deadline", "1700000000000"), ("of", "l"), ("event", "e"), ("count", "1")),
        *(("mode", "resume"), ("checkpoint", "c"), ("source", "t/0@1"), ("letters", "7")),
        *(("history", "h"), ("signature", "v1 k AAAA")),
    )
]


def _pairs(value: bytes) -> list[tuple[str, bytes | None]]:
    """Read names and values of headers, a line each."""
    lines = (line.partition(b":") for line in value.split(b"\n"))
    return [(_text(name), rest if colon else None) for name, colon, rest in lines]


def _headers(value: bytes) -> object:
    raw = _pairs(value)
    EventHeaders.claimed_by(raw, "e")
    found = EventHeaders.of_event(raw, "e")
    thread = found.thread_of("e", 1)
    producers_name(thread)
    return found.write()


def _letter(value: bytes) -> object:
    for headers in ((), STATE_HEADERS, (("redrive-kind", b"k"), ("redrive-reason", b"r"))):
        record = _record(value, *headers)
        slim = read_slimly(record)
        if isinstance(slim, dict):
            descent_of(slim), event_id_in(slim)
        whole = read_letter(record)
        if isinstance(whole, DeadLetter):
            _ = whole.event_id, whole.source.digest, whole.source.event_name
    return None


def _result(value: bytes) -> object:
    found = WorkflowResultEvent.from_bytes(value)
    Expected("e", "w", "r", redrive_count=1).mismatch(found)
    return None


def _answer(value: bytes) -> object:
    run_answers.judge({"status": "success", "event_id": "e", "record": _text(value)})
    return run_answers.judge({"status": "success", "event_id": "e", "record": _json(value)})


def _json(value: bytes) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _audited(value: bytes) -> object:
    chain = AuditChain()
    done = ProducerRecord("letters", b"k", _STATE, STATE_HEADERS, 0)
    chain.take(ConsumerRecord(TopicPartition("audit", 0), 0, b"k", value, (), 1))
    chain.take(ConsumerRecord(TopicPartition("audit", 0), 1, b"k", value, (), 1))
    return chain.head, chain.add(done, topic="audit", until=2, job="j")


def _signed(value: bytes) -> object:
    record = ConsumerRecord(PLACE, 7, b"key", b"{}", tuple(_pairs(value)), 1)
    return judged(record, Subject.EVENT, VERIFIER)


def _spooled(value: bytes) -> object:
    with _file(value) as path:
        return list(read_spool(path))


def _sealed_event(value: bytes) -> object:
    return opened_event(WorkflowEvent.from_bytes(value), PAYLOADS)


def _sealed_result(value: bytes) -> object:
    return opened_result(WorkflowResultEvent.from_bytes(value), PAYLOADS)


def _sealed_letter(value: bytes) -> object:
    found = read_letter(_record(value))
    return opened_letter(found, PAYLOADS) if isinstance(found, DeadLetter) else None


class _Any:
    """A codec that decodes whatever it is given: the plain text is hostile then."""

    label = "any"

    def encode(self, plain: bytes, about: bytes) -> bytes:  # noqa: ARG002 - a codec's
        return plain

    def decode(self, label: str, data: bytes, about: bytes) -> bytes:  # noqa: ARG002 - a codec's
        return data


def _decoded(value: bytes) -> object:
    payloads = Payloads(_Any())
    sealed = payloads.seal(value, ("x",)).as_json()
    text = json.dumps({**json.loads(_EVENT), "payload": {"data": sealed}})
    outcomes: list[Callable[[], object]] = [
        lambda: opened_event(WorkflowEvent.from_bytes(text.encode()), payloads),
        lambda: open_text(text, payloads),
        lambda: opened_letter(_LETTER.model_copy(update={"sealed": sealed}), payloads),
        lambda: opened_result(_RESULT.model_copy(update={"result": sealed}), payloads),
    ]
    for outcome in outcomes:
        with suppress(CodecError):
            outcome()
    return None


# Texts.


class _AnsweredError(Exception):
    def __init__(self, headers: object, message: str) -> None:
        super().__init__(message)
        self.response = SimpleNamespace(headers=headers, status_code=429)
        self.details = self.body = {"error": {"details": [{"retryDelay": message}]}}


def _retry_after(value: bytes) -> object:
    text = _text(value)[:MAX_ANSWER_CHARS]
    parse_retry_after(text, CLOCK)
    names = ("retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "ratelimit")
    for name in names:
        error = _AnsweredError({name: text, "x-ratelimit-remaining-tokens": text}, text)
        retry_after_of(error, CLOCK)
        limit_reset_of(error, CLOCK)
    error = _AnsweredError(dict.fromkeys(names, value), f"try again in {text[:3_000]}")
    return retry_after_of(error, CLOCK), limit_reset_of(error, CLOCK)


def _edited(value: bytes) -> object:
    text = _text(value)
    for call in (
        lambda: pretty(text),
        lambda: compact(text),
        lambda: check_event(text, event_id=None),
        lambda: set_values(text, [Change(("payload", "data", "a"), "1")]),
        lambda: set_values(_EVENT.decode(), [Change.parse(text)]),
    ):
        with suppress(RecordError, ValueError):
            call()
    return None


def _data(value: bytes) -> object:
    return _object(_text(value).lstrip("@-"), "--data")


def _time(text: str) -> object:
    found = letter_flags.parse_flag_time("since", text, NOW)
    return found < NOW, found.isoformat(), Query(since=found, ids=frozenset({text}))


# Files and settings.


class _file:  # noqa: N801 - used as a function
    def __init__(self, value: bytes, name: str = "hostile") -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / name
        self._path.write_bytes(value)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _settings_file(value: bytes) -> object:
    with _file(value, "redrive.toml") as path, warnings.catch_warnings():
        # Of a pattern that is written oddly.
        warnings.simplefilter("ignore", FutureWarning)
        return holding(load_with_origins(path, {}, {}))


def _environment(value: bytes) -> object:
    """Read a line each: a name and its value."""
    pairs = (line.partition("=") for line in _text(value).replace("\0", "").split("\n"))
    environ = {f"REDRIVE_{name}": text for name, _, text in pairs}
    environ.pop("REDRIVE_CONFIG", None)
    return holding(load_with_origins(None, {}, environ))


def _langgraph(value: bytes) -> object:
    with _file(value, "langgraph.json") as path:
        return read_langgraph_json(path)


def _connection(value: bytes) -> object:
    extra = _extra(SimpleNamespace(extra=_text(value), conn_id="c"))  # type: ignore[arg-type]  # as much as is read
    id_secret(extra, conn_id="c")
    signer_of(extra, conn_id="c", environ={})
    return kafka_settings(extra, conn_id="c")


_SENT = event({"text": "x", "number": 1.0})
_EVENT = _SENT.to_bytes()
_LETTER = dead_letter(_SENT, topic="t")
_RESULT = WorkflowResultEvent.from_bytes(
    next(r for r in records() if b'"correlation_id"' in r and b'"status"' in r)
)
_SEALED_LETTERS = [sealed_letter(_LETTER, PAYLOADS).to_bytes()]
_STATE = next(r for r in records() if b'"actor"' in r)
_NOTE = CommitMetadata(
    1,
    2,
    finished=0b1011 << 5,
    reserved=4,
    entries={0: OffsetEntry(1, 2, started=True, until=1_700_000_100), 3: OffsetEntry()},
    at=1_700_000_000,
    rests=(StoredRest("w", "d", 1_700_000_200, 30),),
    offset=9,
    log=LogIdentity(b"c" * 8, b"t" * 16),
)
_NOTES = [encode(_NOTE).encode(), encode(CommitMetadata(1, 2)).encode()]
_TOML = b"""
[kafka]
group_id = "g"
[kafka.config]
"sasl.username" = "me"
"sasl.password" = "secret"
[graphs."my.report"]
target = "agents:graph"
timeout = "10m"
[retry.kinds]
timeout = 1
[[retry.rules]]
kind = "transient"
message = "replica"
[security.signing_keys]
k = "0123456789abcdef0123456789abcdef"
[letters]
redact = ["a+"]
[worker]
buffer = "64MiB"
"""
_DURATIONS = [b"30s", b"1m 30s", b"250ms", b"2h", b"7d", b"1.5h", b"17"]
_TIMES = [*_DURATIONS, b"2026-01-31T08:00Z"]
_WAITS = [
    *(b"20", b"6m0s", b"Wed, 21 Oct 2026 07:28:00 GMT", b"limit=1, remaining=0, reset=50"),
    *(b"try again in 20 seconds", b"2026-11-29T10:00:00Z", b'"default";r=0;t=30', b"1, 2"),
]
_VARIABLES = [
    b'KAFKA__GROUP_ID=g\nGRAPHS={"a": {"target": "a:b"}}\nNOTIFY__URLS=json://a slack://b',
    b'RETRY__RULES=[{"kind": "transient", "message": "x"}]\nWORKER__GRACE=50s',
]
_SIZES = [b"64MiB", b"900kB", b"512B", b"17", b"1.5GB"]
_LINES = [f"{name}:{value}".encode() for name, value in HEADERS]
_AUDIT = [
    audit_record(
        ProducerRecord("letters", b"k", _STATE, STATE_HEADERS, 0),
        topic="audit",
        link={"seq": seq, "prev": prev, "until": 0, "others": None, "job": "j", "plan": None},
    ).value
    or b""
    for seq, prev in ((1, None), (7, "a" * 64))
]
_EXTRA = json.dumps(
    {
        "bootstrap.servers": "b:9092",
        "sasl.password": "s",
        "security.protocol": "SASL_SSL",
        "airflow.id_secret": "i" * 32,
        "security.sign_with": "k",
        "security.signing_secret": "s" * 32,
        "socket.timeout.ms": 10,
        "group.id": "g",
    }
).encode()
_GRAPHS = json.dumps(
    {
        "graphs": {"a": "./a.py:graph", "b": {"path": "b:graph", "description": "d"}},
        "dependencies": [".", "langgraph>=1", "./src"],
        "env": {"NAME": "value"},
        "store": {"index": {"dims": 3}},
        "checkpointer": {"ttl": {}},
        "http": {"app": "x"},
    }
).encode()

PARSERS = [
    Parser("events", _event, [_EVENT], (RecordError,)),
    Parser("headers", _headers, [b"\n".join(_LINES), *_LINES], (RecordError,)),
    Parser("letters and states", _letter, records()),
    Parser("results", _result, [_RESULT.to_bytes()], (RecordError,)),
    Parser("answers to tasks", _answer, [_RESULT.to_bytes()], (RecordError,)),
    Parser(
        "notes of commits",
        _of_text(decode),
        [encode(_NOTE).encode(), encode(CommitMetadata(1, 2)).encode()],
    ),
    Parser("audit records", _audited, _AUDIT),
    Parser("signatures", _signed, [b"redrive-signature:" + SIGNER.room[1], b"\n".join(_LINES)]),
    Parser(
        "spools",
        _spooled,
        [SpooledLetter(dlq_id="d", topic="t", value=_LETTER.to_bytes(), key=b"k").to_line() * 2],
    ),
    Parser("packed events", unpacked, [zlib.compress(_EVENT * 9)], (ValueError,)),
    Parser(
        "sealed events",
        _sealed_event,
        [sealed_event(_SENT, PAYLOADS).to_bytes()],
        (RecordError, CodecError),
    ),
    Parser(
        "sealed results",
        _sealed_result,
        [sealed_result(_RESULT, PAYLOADS).to_bytes()],
        (RecordError, CodecError),
    ),
    Parser(
        "sealed letters",
        _sealed_letter,
        [sealed_letter(_LETTER, PAYLOADS).to_bytes()],
        (CodecError,),
    ),
    Parser(
        "what was decoded",
        _decoded,
        [json.dumps({"payload": {"data": {}}, "metadata": {"context": {}}}).encode()],
    ),
    Parser(
        "drafts",
        lambda value: opened_draft(value, "d", PAYLOADS),
        [_EVENT, sealed_draft(_EVENT, "d", PAYLOADS)],
        (CodecError,),
    ),
    Parser("edits", _edited, [_EVENT, b"payload.data.a=1", b"a\\.b.c=[1]"]),
    Parser("names of threads", _of_text(producers_name), [b"chat-7", b"scope:a=b/c", b"%41/0/0"]),
    Parser("owners of threads", _of_text(owner_in), [b'"workflow"']),
    Parser("durations", _of_text(parse_duration), _DURATIONS, (ValueError,)),
    Parser("sizes", _of_text(parse_size), _SIZES, (ValueError,)),
    Parser("keys that encrypt", _of_text(key_bytes), [b"ab" * 32, b"A" * 43 + b"="], (ValueError,)),
    Parser("references to secrets", _of_text(is_reference), [b"file:/run/x", b"env:NAME"]),
    Parser(
        "waits that services ask for",
        _retry_after,
        _WAITS,
    ),
    Parser(
        "times of flags",
        _of_text(_time),
        [*_DURATIONS, b"2026-01-31T08:00Z"],
        (typer.BadParameter,),
    ),
    Parser(
        "cursors",
        _of_text(lambda text: page_of([], Query(), limit=1, after=text)),
        [b"2026-01-31T08:00:00+00:00/d"],
        (ValueError,),
    ),
    Parser("heads of chains", _of_text(NotedHead.parse), [b"0:1:" + b"a" * 64], (ValueError,)),
    Parser(
        "data of flags",
        _data,
        [_EVENT],
        (typer.BadParameter,),
    ),
    Parser("settings files", _settings_file, [_TOML], (SettingsError,)),
    Parser(
        "settings of the environment",
        _environment,
        _VARIABLES,
        (SettingsError,),
    ),
    Parser("langgraph.json", _langgraph, [_GRAPHS], (SettingsError,)),
    Parser("connections of Airflow", _connection, [_EXTRA], (SettingsError,)),
]
