"""What whoever may write events can do to a real worker: each attack, and what holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Producer
from tests.kafka.conftest import AGENTS, MakeStage

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import State, read_state
from redrive.events import WorkflowResultEvent
from redrive.redriving.views import read_letters
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

RUNS, NOTHING = "success", "nothing"
UNREADABLE, OTHER_INPUT, PERMANENT = "unreadable", "other_input", "permanent"
SECRET = "what the victim was told"  # noqa: S105 - a mark to be found again
NO_JSON = "success|unreadable|result_not_json"
Headers = list[tuple[str, bytes | None]]

VICTIM = event({"given": SECRET}, workflow_id="asked")
"""Its run has ended before the attacks come, on its own thread."""
FAILED = event({"given": "fail"}, workflow_id="asked")
"""Its run has failed, and has a letter."""
GRAPHS = ("--graph", "asked=asked:builder", "--graph", "other=asked:builder")
BEFORE = 3
"""Events that were there before the attacks."""
THREAD = "chat-7"
"""Named by an event of the workflow `asked`."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One event of a hostile producer, and what it comes to.

    Args:
        name: What is tried.
        value: The record's value.
        headers: Its headers.
        ends: `success`, a reason, or `nothing` where neither result nor letter is due.
        key: Its key.
    """

    name: str
    value: bytes | None
    headers: Headers
    ends: str = RUNS
    key: bytes | None = b"attack"


def told(given: object = "spy", **changes: object) -> bytes:
    """Return an event with an id of its own, unless that is among the changes."""
    whole = json.loads(event({}, workflow_id="asked").to_bytes())
    return json.dumps({**whole, "payload": {"data": {"given": given}}, **changes}).encode()


def of_headers() -> Iterator[Attack]:
    """Attacks by headers of ours: their names are anybody's."""
    for name in (
        *("generation", "attempt", "not-before", "count", "letters", "mode", "of", "event"),
        *("checkpoint", "source", "history", "signature", "record", "kind", "reason"),
    ):
        full = f"redrive-{name}"
        odd = (b"", b"-1", b"\xff\xfe", b"9" * 17, b"9" * 400, b"x" * 100_000, b"a\r\nb: c\0", None)
        yield Attack(f"odd values of {full}", told(), [(full, value) for value in odd])
        for value in odd:
            yield Attack(f"{full}: {value!r:.20}", told(), [(full, value)])
    for value in (b"\x00\xff", b"00-" + b"f" * 90_000, b"x\ny"):
        yield Attack(f"traceparent {value!r:.20}", told(), [("traceparent", value)])
    yield Attack("a name that is no text", told(), [("\x00\x1b[2J\u202e", b"x"), ("", None)])
    yield Attack("a very long name", told(), [("n" * 30_000, b"x")])
    yield Attack("a thousand headers", told(), [(f"h{n}", b"v") for n in range(1_000)])
    yield Attack("a thread twice", told(), [("redrive-thread", b"a"), ("redrive-thread", b"b")])
    for value in (b"\xff", b"t" * 2_000):
        yield Attack("a thread that is none", told(), [("redrive-thread", value)], UNREADABLE)
    for value in (b"soon", b"", b"-1", b"9" * 18):
        yield Attack("a deadline that is none", told(), [("redrive-deadline", value)], UNREADABLE)


def of_others(letter: str) -> Iterator[Attack]:
    """Attacks on runs, threads and letters of others, by their names."""
    of: Headers = [
        ("redrive-of", letter.encode()),
        ("redrive-event", FAILED.event_id.encode()),
        ("redrive-count", b"1"),
        ("redrive-mode", b"resume"),
        ("redrive-generation", b"7"),
        ("redrive-source", b"anna"),
    ]
    yield Attack("drives another's letter", FAILED.to_bytes(), of, PERMANENT)
    yield Attack("drives it with other data", told(event_id=FAILED.event_id), of, OTHER_INPUT)
    yield Attack("drives it under another id", told(), of)
    yield Attack("drives it unreadably", b"{", of, UNREADABLE)
    other = told(event_id=VICTIM.event_id)
    yield Attack("another input under its id", other, [], OTHER_INPUT)
    for thread in (
        *(f"{VICTIM.event_id}/0/0", f"{VICTIM.event_id.upper()}/0/0", f" {VICTIM.event_id}/0/0 "),
        *(f"{VICTIM.event_id}%2F0%2f0", f"{VICTIM.event_id}\0/0/0", f"{VICTIM.event_id}/00/0"),
        *("".join(chr(ord(c) + 0xFEE0) for c in VICTIM.event_id if c != "-") + "/0/0",),
        *(f"\u200b{VICTIM.event_id}/0/0", f"{{{VICTIM.event_id}}}/0/0", "scope:a=b/c"),
    ):
        yield Attack(f"its thread as {thread!r:.60}", told(), [("redrive-thread", thread.encode())])
    named: Headers = [("redrive-thread", THREAD.encode())]
    yield Attack("a named thread", told(workflow_id="other"), named, "thread_of_another")
    section = {
        "configurable": {
            "thread_id": f"{VICTIM.event_id}/0/0",
            "checkpoint_id": "1",
            "checkpoint_ns": "x",
            "tenant": "evil",
        }
    }
    yield Attack("its thread by configurable", told(metadata={"langgraph": section}), [])
    whole = json.loads(told())
    whole["payload"]["config"] = section
    yield Attack("its thread by payload.config", json.dumps(whole).encode(), [])
    reserved = {"langgraph": {"metadata": {"thread_id": VICTIM.event_id}}}
    yield Attack("its thread by metadata", told(metadata=reserved), [], PERMANENT)
    yield Attack("its cancellation", told(event_type="workflow.cancelled"), [], NOTHING)


def of_payloads() -> Iterator[Attack]:
    """Attacks by what an event holds."""
    deep: object = 1
    for _ in range(150):
        deep = {"a": [deep]}
    given: object
    for given in (
        {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "id"}},
        {"lc": 1, "type": "secret", "id": ["PATH"]},
        {"__type": "x", "__var": {"__classname__": "os.system"}, "__id__": 1},
        {"__interrupt__": [1], "__root__": 2, "__error__": "x", "Command": {"goto": "x"}},
        [2**63 - 1, -(2**63), 1e308, -0.0],
        {"": "", "\0": "\x1b[2J\u202e", "\U0001f600": "\U000e0041"},
        "x" * 700_000,
        [[]] * 100_000,
        {"redrive-codec": "aesgcm/1 k", "data": "AAAA"},
    ):
        yield Attack(f"given {given!r:.50}", told(given), [])
    yield Attack("given what is deep", told(deep), [], UNREADABLE)
    yield Attack("more deeply nested", b'{"a":' * 100_000, [], UNREADABLE)
    data = {"data": {"redrive-codec": "aesgcm/1 k", "data": "AAAA"}}
    yield Attack("encrypted for nobody", told(payload=data), [], "codec_failed")
    for value in (b"NaN", b"Infinity", b"1e999"):
        yield Attack(
            f"given {value!r}",
            told("HERE").replace(b'"HERE"', value),
            [],
            "success|unreadable|result_not_json",
        )
    yield Attack("given half a character", told("\ud800"), [], UNREADABLE)
    yield Attack("a key twice", told()[:-1] + b', "workflow_id": "asked"}', [])
    yield Attack("null", None, [], UNREADABLE)
    yield Attack("null, without a key", None, [], UNREADABLE, key=None)
    yield Attack("nothing", b"", [], UNREADABLE, key=b"")
    for field, size in (("event_id", 201), ("workflow_id", 1_025), ("workflow_run_id", 1_025)):
        yield Attack(f"a long {field}", told(**{field: "0" * size}), [], UNREADABLE)
    for date in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"):
        yield Attack(f"sent at {date}", told(timestamp=date), [])
    # A few kilobytes on the topic; objects by the hundred megabytes.
    yield Attack("more values than any", told([0] * 2_100_000), [], UNREADABLE)
    pattern = "a" * 1_000 + "!"
    for name in ("x" * 1_024, "\x1b[2J\r\nredrive: ok", 'a"} 1\nb{c="', "*", "[a-", pattern):
        yield Attack(f"workflow {name!r:.30}", told(workflow_id=name), [], "unknown_workflow")


def all_attacks(letter: str) -> list[Attack]:
    """Return all of them; one letter of another's is attacked."""
    return [*of_headers(), *of_others(letter), *of_payloads()]


def sent(env: KafkaEnv, attacks: list[Attack]) -> None:
    producer = Producer(
        {
            "bootstrap.servers": env.bootstrap_servers,
            "compression.type": "zstd",
            "message.max.bytes": 20_000_000,
        }
    )
    for attack in attacks:
        producer.produce(env.topics.events, attack.value, attack.key, 0, headers=[*attack.headers])
    assert producer.flush(60) == 0


def endings(evidence: Any) -> dict[int, str]:  # noqa: ANN401 - records of all topics
    """Return how each event ended, by its offset: with its answer, and its letter."""
    ended: dict[int, str] = {}
    for record in evidence.results:
        answer = WorkflowResultEvent.from_bytes(record.value)
        assert answer.answers is not None
        assert answer.answers.offset not in ended
        info = answer.error_info
        ended[answer.answers.offset] = answer.status if info is None else info.reason
    for record in evidence.letters:
        if read_state(record) is None:
            letter = DeadLetter.model_validate_json(record.value or b"")
            assert ended.setdefault(letter.source.offset, letter.reason) == letter.reason
    return ended


@pytest.mark.invariant("P1", "P2", "P5", "P7", "P13", "P15")
def test_no_event_does_more_than_the_threat_model_says(make_stage: MakeStage) -> None:
    env = make_stage(partitions=1)
    shutil.copy(AGENTS / "asked.py", env.folder)
    healthy = [event({"given": n}, workflow_id="asked") for n in range(20)]
    with env.worker("--worker-id", "w1", *GRAPHS).running() as worker:
        env.send([VICTIM, FAILED], partition=0)
        chat = event({"given": SECRET}, workflow_id="asked")
        env.send([chat], headers={"redrive-thread": THREAD}, partition=0)
        env.wait_settled(timeout_s=60)
        (letter,) = read_letters(env.kafka_settings()).letters
        attacks = all_attacks(letter.dlq_id)
        sent(env, attacks)
        env.send(healthy, partition=0)
        env.wait_settled(timeout_s=120)
        logged = list(worker.events())
        assert worker.stop() == 0

    assert len(attacks) > 150
    evidence = gather(env.bootstrap_servers, env.topics)
    ended = endings(evidence)
    there = [ended.get(number + BEFORE, NOTHING) for number in range(len(attacks))]
    ends = zip(attacks, there, strict=True)
    wrong = {one.name: (found, one.ends) for one, found in ends if found not in one.ends.split("|")}
    assert wrong == {}
    assert [ended[BEFORE + len(attacks) + n] for n in range(20)] == [RUNS] * 20
    # Nobody was told what the victim was.
    told_victim = [r for r in evidence.results if SECRET.encode() in (r.value or b"")]
    assert len(told_victim) == 2
    after = {one.dlq_id: one.state for one in read_letters(env.kafka_settings()).letters}
    assert after[letter.dlq_id] == State.OPEN
    bugs = {"event.not_taken", "event.not_run"}
    assert [one for one in logged if one["event"] in bugs or "exception" in one] == []
    # What nobody can decode, a judge without a key cannot compare either.
    assert judge(evidence).findings == [
        "1 records whose payload is encrypted, and could not be decoded"
    ]
