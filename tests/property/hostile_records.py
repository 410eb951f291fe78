"""Records that a hostile writer could put on any topic: some thousands, from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator

from redrive.kafka.log import ConsumerRecord, TopicPartition

__all__ = ["hostile_letters", "hostile_values"]

DATES = (
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00Z"),
    *("9999-12-31T23:59:59Z", "1970-01-01", "2026-02-30T00:00:00Z", "now", "0", "-1", "1e308"),
)
NUMBERS = (0, -1, 1, 0.5, -0.0, 2**31, 2**63, 2**64, -(2**64), 10**300, 10**400, 1e308, True)
TEXTS = ("", "\0", "\x1b[2J\u202e", "x" * 5_000, "é", "None", "a/b/../c", "{}", "🙂" * 300, " ")
OTHERS: tuple[object, ...] = (None, [], {}, [[[]]], {"a": {"b": []}}, [None], {"": ""}, [1, "a"])


def hostile_values(dice: random.Random) -> object:
    """Return one of any kind."""
    kind = dice.randrange(4)
    pool: tuple[object, ...] = (DATES, NUMBERS, TEXTS, OTHERS)[kind]
    return dice.choice(pool)


def changed(whole: object, dice: random.Random) -> object:
    """Return it with a few of its parts, at any depth, made something else, or left out.

    Few, so that most are still what they were: what cannot be read at all does no harm.
    """
    for _ in range(dice.choice((1, 1, 2, 4))):
        at: object = whole
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))  # type: ignore[arg-type]  # a list
            if not keys:
                break
            key = dice.choice(keys)
            inner = at[key]  # type: ignore[index]  # either
            if isinstance(inner, dict | list) and inner and dice.random() < 0.8:
                at = inner
                continue
            is_time = isinstance(inner, str) and inner.startswith("20")
            new = dice.choice(DATES) if is_time else hostile_values(dice)
            if isinstance(inner, int) and not isinstance(inner, bool) and dice.random() < 0.7:
                new = dice.choice(NUMBERS)
            elif isinstance(inner, str) and not is_time and dice.random() < 0.7:
                new = dice.choice(TEXTS)
            at[key] = copy.deepcopy(new)  # type: ignore[index]  # either
            break
    return whole


def hostile_letters(
    wholes: list[bytes], count: int, dice: random.Random, *, headers: list[str]
) -> Iterator[ConsumerRecord]:
    """Yield records made of these values, with headers that may say anything."""
    for offset in range(count):
        whole = json.loads(dice.choice(wholes))
        if "error" in whole and "dlq_id" in whole:
            whole["dlq_id"] += f"-{offset}"  # letters of their own
        value = json.dumps(changed(whole, dice)).encode()
        if dice.random() < 0.03:
            value = value[: dice.randrange(len(value))] + dice.randbytes(3)
        said = [
            (name, str(hostile_values(dice)).encode() if dice.random() < 0.5 else b"1")
            for name in headers
            if dice.random() < 0.3
        ]
        told = b"state" if b'"actor"' in value else b"letter"
        kind = dice.choice((told, told, told, told, b"note", b"\xff", None))
        if kind is not None:
            said.append(("redrive-record", kind))
        at_ms = dice.choice((None, 0, -1, 1_700_000_000_000, 2**62, -(2**62), 10**16))
        tp = TopicPartition("t", dice.randrange(3))
        yield ConsumerRecord(tp, offset, dice.choice((None, b"", b"k")), value, tuple(said), at_ms)
