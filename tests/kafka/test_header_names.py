"""A header whose name is not UTF-8: the client does not give a record's headers, and goes on."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import confluent_kafka
import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

TOPIC, PARTITION, VALUE, COPY, HEADER, END = map(ctypes.c_int, (1, 3, 4, 7, 9, 0))


@pytest.mark.invariant("P1", "P7")
def test_an_event_with_a_header_of_such_a_name_is_run(make_stage: Callable[..., KafkaEnv]) -> None:
    env = make_stage(partitions=1, REDRIVE_CHECKPOINTS__URL="none")
    sent = [event({"fate": fate}) for fate in ("success", "permanent", "success")]
    for one in sent[:2]:
        _produce(env, one.to_bytes(), b"\xff\xfe")
    env.send(sent[2:])

    with env.worker("--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0
        named = {line["offset"] for line in worker.events("record.headers_unreadable")}

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert dict(verdict.results) == {"success": 2, "error": 1}
    assert named == {0, 1}


def _produce(env: KafkaEnv, value: bytes, name: bytes) -> None:
    """Do what the Python client cannot: give a header a name that is no text."""
    (path,) = Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka*")
    library, said = ctypes.CDLL(str(path)), ctypes.create_string_buffer(512)
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    options = ctypes.c_void_p(library.rd_kafka_conf_new())
    servers = env.bootstrap_servers.encode()
    library.rd_kafka_conf_set(options, b"bootstrap.servers", servers, said, len(said))
    producer = ctypes.c_void_p(library.rd_kafka_new(0, options, said, len(said)))
    size = ctypes.c_size_t(len(value))
    given: tuple[object, ...] = (TOPIC, env.topics.events.encode(), PARTITION, ctypes.c_int32(0))
    given += (COPY, ctypes.c_int(2), VALUE, ctypes.c_char_p(value), size)
    given += (HEADER, ctypes.c_char_p(name), ctypes.c_char_p(b"v"), ctypes.c_ssize_t(1))
    assert library.rd_kafka_producev(producer, *given, END) == 0
    assert library.rd_kafka_flush(producer, 20_000) == 0
    library.rd_kafka_destroy(producer)
