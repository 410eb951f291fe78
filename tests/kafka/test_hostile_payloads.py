"""Records of every kind that is no event, or hardly one: each ends once, and delays nobody."""

import json
import random
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from redrive.events import WorkflowResultEvent
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

SEED = 20_261_124
LARGE_BYTES = 900_000
Headers = list[tuple[str, str | bytes | None]]


def good(**changes: object) -> dict[str, object]:
    return {**json.loads(event({"fate": "success"}).to_bytes()), **changes}


def hostile_values(dice: random.Random) -> Iterator[bytes | None]:
    """Give more than 300 of them."""
    yield from (None, b"", b" ", b"null", b"true", b"0", b'""', b"[]", b"{}", b"\x00", b"{", b"NaN")
    yield from (
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        "é".encode("latin-1"),
        b"\xed\xa0\x80",
        b'"\\ud800"',
    )
    yield from (b"[" * 10_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"9" * 10_000, b"1e999")
    yield b"x" * LARGE_BYTES
    yield json.dumps({"padding": "x" * LARGE_BYTES}).encode()
    wrong: tuple[object, ...] = (
        None,
        7,
        -1,
        1.5,
        True,
        [],
        {},
        "",
        "\x00",
        "\ud800",
        "x" * 5_000,
        10**400,
        [[]],
        {"a": []},
    )
    for field in good():
        for value in wrong:
            yield json.dumps(good(**{field: value})).encode("utf-8", "surrogatepass")
        yield json.dumps({name: v for name, v in good().items() if name != field}).encode()
    for _ in range(100):
        yield dice.randbytes(dice.randrange(1, 400))
    for _ in range(100):
        whole = json.dumps(good()).encode()
        cut = dice.randrange(len(whole))
        yield whole[:cut] + dice.randbytes(dice.randrange(4)) + whole[cut + dice.randrange(3) :]


def hostile_headers() -> Iterator[Headers]:
    """Give headers that a whole event may not have, and some that it may."""
    for name in ("deadline", "count", "generation", "attempt", "not-before"):
        for value in (b"", b"-1", b"1.5", b"\xff", b"9" * 30, b"9" * 18, None):
            yield [(f"redrive-{name}", value)]
    yield [("redrive-mode", b"sideways")]
    yield [("redrive-thread", b"\xff")]
    yield [("x", b"1"), ("x", b"2"), ("x", None), ("", b""), ("\x00", b"\x00")]
    yield [("redrive-of", b"a"), ("redrive-of", b"b")]
    yield [(f"h{number}", b"v" * 100) for number in range(50)]


@pytest.mark.invariant("P1", "P2", "P6", "P7")
def test_hostile_records_end_once_each_and_delay_no_healthy_event(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=3, REDRIVE_CHECKPOINTS__URL="none")
    values = list(hostile_values(random.Random(SEED)))
    assert len(values) > 300
    headed = [(json.dumps(good()).encode(), headers) for headers in hostile_headers()]
    keys = (None, b"", b"\x00\xff", b"k" * 1_000, "\ud800".encode("utf-8", "surrogatepass"))
    healthy = [event({"fate": "success"}) for _ in range(100)]
    producer = Producer({"bootstrap.servers": env.bootstrap_servers})
    for number, value in enumerate(values):
        producer.produce(env.topics.events, value, keys[number % len(keys)])
    for value, headers in headed:
        producer.produce(env.topics.events, value, b"headed", headers=headers)
    assert producer.flush(30) == 0
    env.send(healthy)

    with env.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=90)
        assert worker.stop() == 0

    evidence = gather(env.bootstrap_servers, env.topics)
    verdict = judge(evidence)
    assert verdict.findings == []
    results = [WorkflowResultEvent.from_bytes(record.value) for record in evidence.results]
    ended = {result.correlation_id: result.status for result in results}
    assert all(ended[sent.event_id] == "success" for sent in healthy)
    assert verdict.letters["unreadable"] > 200
