"""Names of threads: what a producer may call its own, and what is read as another's."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.errors import RecordError
from redrive.events import EventHeaders, WorkflowEvent, thread_scope
from redrive.testing.kafka_env import event
from redrive.thread_names import is_own_thread, own_thread, producers_name, scoped_thread

OTHER = "7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10"
ARABIC = {ord("0") + digit: 0x660 + digit for digit in range(10)}
NUMBERS = st.integers(0, 9).map(str)


@st.composite
def event_ids(draw: st.DrawFn) -> str:
    """Return an id as events may have it: in each form that Python takes for a UUID."""
    plain = str(draw(st.uuids()))
    digits = plain.replace("-", "")
    odd = [f"{digits[1:]} ", f" {digits[1:]}", f"+{digits[1:]}", f"0x{digits[2:]}"]
    odd += [f"1_{digits[2:]}", digits.translate(ARABIC)]
    text = draw(st.sampled_from([plain, plain.upper(), digits, *odd]))
    return draw(st.sampled_from(["{}", "{{{}}}", "urn:uuid:{}", "{{urn:uuid:{}}}"])).format(text)


@pytest.mark.invariant("P15")
@given(event_ids(), NUMBERS, NUMBERS)
def test_no_producer_names_the_thread_of_an_event(event_id: str, part: str, life: str) -> None:
    own = own_thread(event_id, int(part), int(life))
    told = json.dumps({**plain({}), "event_id": event_id}).encode()
    assert WorkflowEvent.from_bytes(told).event_id == event_id

    assert is_own_thread(own, event_id)
    assert producers_name(own) is None


@pytest.mark.invariant("P15")
@rows(
    "name",
    [
        f"{OTHER}/0/0",
        f"{OTHER}/12/345",
        f"{OTHER.upper()}/0/0",
        f" {OTHER}/0/0",
        f"{OTHER}/0/0 ",
        f"{OTHER}/0/0\n",
        f"{OTHER} / 0 / 0",
        f"{OTHER}/0/0\0",
        f"{OTHER}/\u0660/\u0660",
        f"{OTHER}/\uff10/\uff10",
        f"{OTHER}\uff0f0\uff0f0",
        f"{OTHER}/0/\u200b0",
        f"\ufeff{OTHER}/0/0",
        quote(f"{OTHER}/0/0", safe=""),
        quote(quote(f"{OTHER}/0/0", safe=""), safe=""),
        f"{OTHER.replace('-', '')}/0/0",
        f"{{{OTHER}}}/0/0",
        f"urn:uuid:{OTHER}/0/0",
        f"URN:UUID:{OTHER}/0/0",
        "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in OTHER) + "/0/0",
        scoped_thread("metadata.tenant", "acme", "chat"),
        scoped_thread("metadata.tenant", "acme", "chat").upper(),
        quote(scoped_thread("metadata.tenant", "acme", "chat"), safe=""),
    ],
)
def test_what_is_written_like_a_thread_of_ours_is_no_name(name: str) -> None:
    assert producers_name(name) is None
    assert EventHeaders(thread=name).thread_of(str(UUID(int=1)), 2).endswith("/2/0")


@rows(
    "name",
    [
        "conversation-7",
        OTHER,
        f"{OTHER}/chat",
        f"{OTHER}/1",
        f"{OTHER}/0/0/more",
        "user/12/3",
        "scope:all",
        "100%",
        "größe/1/2",
        " ",
    ],
)
def test_every_other_name_is_the_producers(name: str) -> None:
    assert producers_name(name) == name


@rows(
    ("thread", "is_own"),
    [
        (f"{OTHER}/0/0", True),
        (f"{OTHER}/17/2", True),
        (f"{OTHER}/chat", False),
        (f"{OTHER}/0/0/0", False),
        (f"{OTHER}/0/0 ", False),
        (f"{OTHER}/\u0660/0", False),
        (OTHER, False),
        ("chat", False),
    ],
)
def test_an_own_thread_is_known_by_its_whole_form(thread: str, is_own: bool) -> None:  # noqa: FBT001 - a row
    assert is_own_thread(thread, OTHER) is is_own


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.invariant("P15")
@given(TEXT, TEXT, TEXT, TEXT)
def test_threads_of_two_scopes_never_meet(value: str, name: str, other: str, its: str) -> None:
    one = scoped_thread("metadata.tenant", value, name)
    two = scoped_thread("metadata.tenant", other, its)

    assert (one == two) == ((value, name) == (other, its))


def scoped(metadata: dict[str, Any], path: str | None, name: str | None = "chat") -> str:
    told = WorkflowEvent.from_bytes(json.dumps(plain(metadata)).encode())
    headers = EventHeaders(thread=name)
    scope = thread_scope(headers, told, path)
    return headers.thread_of(told.event_id, 3, scope=scope)


def plain(metadata: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(event({"tenant": "in data"}).to_bytes())
    return {**told, "event_id": OTHER, "metadata": metadata, "region": "eu"}


@rows(
    ("metadata", "path", "name", "thread"),
    [
        ({"tenant": "acme"}, "metadata.tenant", "chat", "scope:metadata.tenant=acme/chat"),
        ({"tenant": "a/b=c"}, "metadata.tenant", "chat", "scope:metadata.tenant=a%2Fb%3Dc/chat"),
        ({"tenant": 7}, "metadata.tenant", "chat", "scope:metadata.tenant=7/chat"),
        ({"a": {"b": "c"}}, "metadata.a.b", "chat", "scope:metadata.a.b=c/chat"),
        ({}, "payload.data.tenant", "chat", "scope:payload.data.tenant=in%20data/chat"),
        ({}, "region", "chat", "scope:region=eu/chat"),
        ({"tenant": "acme"}, None, "chat", "chat"),
        ({"tenant": "acme"}, "metadata.tenant", None, f"{OTHER}/3/0"),
        ({}, "metadata.tenant", None, f"{OTHER}/3/0"),
        ({}, "metadata.tenant", f"{OTHER}/0/0", f"{OTHER}/3/0"),
    ],
)
def test_a_scope_is_part_of_the_thread(
    metadata: dict[str, Any], path: str | None, name: str | None, thread: str
) -> None:
    assert scoped(metadata, path, name) == thread


@rows(
    ("metadata", "path"),
    [
        ({}, "metadata.tenant"),
        ({"tenant": ""}, "metadata.tenant"),
        ({"tenant": None}, "metadata.tenant"),
        ({"tenant": True}, "metadata.tenant"),
        ({"tenant": 1.5}, "metadata.tenant"),
        ({"tenant": 10**30}, "metadata.tenant"),
        ({"tenant": ["acme"]}, "metadata.tenant"),
        ({"tenant": {"id": "acme"}}, "metadata.tenant"),
        ({"tenant": "x" * 201}, "metadata.tenant"),
        ({"tenant": "acme"}, "metadata.tenant.id"),
        ({}, "model_dump"),
        ({}, "payload.model_extra"),
    ],
)
def test_an_event_that_names_a_thread_and_not_whose_is_refused(
    metadata: dict[str, Any], path: str
) -> None:
    with pytest.raises(RecordError, match=r"threads\.scope") as refused:
        scoped(metadata, path)

    assert refused.value.field == path
