"""Equal causes share a fingerprint, whatever values they carry; different causes do not."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.dead_letter.fingerprint import fingerprint
from redrive.dead_letter.normalise import normalised
from redrive.retry.kinds import Kind

# One value of each form, as messages show them.
VALUES = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.uuids().map(str),
    st.uuids().map(lambda value: value.hex[:12] + "0"),
    st.integers(0, 2**48).map(hex),
    st.datetimes().map(lambda value: value.isoformat()),
    st.datetimes().map(lambda value: value.isoformat(sep=" ") + "Z"),
    st.builds(lambda n, unit: f"{n} {unit}", st.integers(0), st.sampled_from(["ms", "s", "MB"])),
    st.builds(lambda n, unit: f"{n}{unit}", st.integers(0), st.sampled_from(["s", "KiB", "%"])),
    st.text(st.characters(codec="ascii"), max_size=40).map(repr),
    st.ip_addresses().map(str),
    st.emails().filter(lambda value: not set(value) & set("'`\"/{|}!#$%&*=?^~")),
    st.from_regex(r"\A/[a-z]{1,8}(/[a-z]{1,8}){0,3}(\.py)?\Z"),
    st.from_regex(r"\Areq_[a-z]{0,6}[0-9][a-z0-9]{0,9}\Z"),
    st.from_regex(r"\Ahttps://api\.example\.com/[a-z0-9/]{0,20}(\?q=[a-z0-9]{1,9})?\Z").map(
        lambda value: value.replace("https://api.example.com/", "/x")
    ),
)
WORDS = st.lists(
    st.sampled_from(
        ("order", "customer", "is", "unknown", "refused", "by", "the", "of", "to", "quota", "for")
    ),
    min_size=1,
    max_size=8,
)
KINDS = st.sampled_from(list(Kind))
NAMES = st.none() | st.sampled_from(["think", "pay", "pay/refund"])
TYPES = st.sampled_from([ValueError, KeyError, RuntimeError, ConnectionError, OSError])


def of(error: BaseException, **more: Any) -> str:
    return fingerprint(error, **{"kind": Kind.PERMANENT, "node": "n", "workflow_id": "w", **more})


@given(WORDS, WORDS, VALUES, VALUES, TYPES)
def test_other_values_in_the_same_sentence_share_one(
    before: list[str], after: list[str], one: str, other: str, kind: type[Exception]
) -> None:
    template = f"{' '.join(before)} {{}} {' '.join(after)}"

    assert of(kind(template.format(one))) == of(kind(template.format(other)))


@given(WORDS, WORDS, VALUES)
def test_other_sentences_do_not(one: list[str], other: list[str], value: str) -> None:
    first, second = f"{' '.join(one)} {value}", f"{' '.join(other)} {value}"

    assert (of(ValueError(first)) == of(ValueError(second))) == (one == other)


@given(
    st.tuples(TYPES, KINDS, NAMES, NAMES),
    st.tuples(TYPES, KINDS, NAMES, NAMES),
)
def test_another_type_kind_node_or_workflow_makes_another(
    one: tuple[type[Exception], Kind, str | None, str | None],
    other: tuple[type[Exception], Kind, str | None, str | None],
) -> None:
    first = fingerprint(one[0]("no"), kind=one[1], node=one[2], workflow_id=one[3])
    second = fingerprint(other[0]("no"), kind=other[1], node=other[2], workflow_id=other[3])

    assert (first == second) == (one == other)


@given(st.text(st.characters()))
def test_any_message_can_be_normalised_and_stays_short(message: str) -> None:
    text = normalised(message)

    assert len(text) <= 512
    assert "\n" not in text


@rows(
    "piece", ["a", "a-", "a/", "'", '"', '"\\', '\\"', ":", "1.", "1 ", "[redacted:", "“", "a@a."]
)
def test_a_hostile_message_is_normalised_in_time(piece: str) -> None:
    began = time.monotonic()

    normalised((piece * 100_000)[:100_000])

    assert time.monotonic() - began < 20
