"""Which service a failure names: by whom it asked, through wrappers, groups and hidden causes."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.errors import RateLimitedError, TransientError
from redrive.retry import dependency_of


def refused(url: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", url)
    return httpx.HTTPStatusError(
        "429", request=request, response=httpx.Response(429, request=request)
    )


@rows(
    "url, named",
    [
        ("https://api.example/v1/chat?key=s3cret", "api.example"),
        ("https://API.Example:443/", "api.example"),
        ("http://api.example:80", "api.example"),
        ("http://api.example:443", "api.example:443"),
        ("https://user:pass@api.example:8443/x", "api.example:8443"),
        ("http://127.0.0.1:8080/a", "127.0.0.1:8080"),
        ("http://[2001:DB8::1]:8080/", "[2001:db8::1]:8080"),
        ("http://search_v2/", "search_v2"),
    ],
)
def test_a_url_is_named_by_its_host_and_an_unusual_port_and_no_secret_of_it(
    url: str, named: str
) -> None:
    assert dependency_of(refused(url)) == named


class UrlError(Exception):
    """Carries something that it calls its URL."""

    def __init__(self, url: object) -> None:
        super().__init__("no")
        self.url = url


@rows(
    "url",
    ["", "api.example", "/relative", "file:///etc/passwd", "http://", "http://a b/", 7, object(),
     "https://x:port/", "http://" + "a" * 300, b"http://api.example/", MagicMock()],
    ids=repr,
)  # fmt: skip
def test_what_is_no_url_of_a_service_names_nobody(url: object) -> None:
    assert dependency_of(UrlError(url)) is None


def test_an_error_that_says_nothing_names_nobody() -> None:
    assert dependency_of(ValueError("https://api.example said 429")) is None
    assert dependency_of(RateLimitedError(retry_after=5)) is None


def test_a_node_may_name_the_service_itself() -> None:
    assert dependency_of(RateLimitedError("later", dependency="search")) == "search"


def test_the_mark_of_an_exception_decides_before_its_request() -> None:
    error = refused("https://proxy.example")
    error.__redrive_dependency__ = "search"  # type: ignore[attr-defined]  # as any class may

    assert dependency_of(error) == "search"


def test_a_wrapper_is_named_by_what_it_wraps() -> None:
    outer = RuntimeError("the tool failed")
    outer.__cause__ = refused("https://api.example")

    assert dependency_of(outer) == "api.example"


def test_a_node_that_says_it_anew_while_it_handles_a_refusal_speaks_of_the_same_service() -> None:
    def node() -> None:
        try:
            raise refused("https://api.example")
        except httpx.HTTPStatusError:
            raise TransientError("busy") from None

    with pytest.raises(TransientError) as caught:
        node()

    assert dependency_of(caught.value) == "api.example"


def test_who_was_asked_last_is_named_before_who_was_asked_before() -> None:
    def node() -> None:
        try:
            raise refused("https://first.example")
        except httpx.HTTPStatusError:
            raise refused("https://second.example")  # noqa: B904 - as nodes are written

    with pytest.raises(httpx.HTTPStatusError) as caught:
        node()

    assert dependency_of(caught.value) == "second.example"


@rows(
    "members, named",
    [
        ([refused("https://a.example"), ValueError()], "a.example"),
        ([refused("https://a.example"), refused("https://a.example/2")], "a.example"),
        ([refused("https://a.example"), refused("https://b.example")], None),
        ([ExceptionGroup("", [refused("https://a.example")])], "a.example"),
        ([ValueError()], None),
    ],
)
def test_a_group_names_whom_all_its_members_name_that_name_any(
    members: list[Exception], named: str | None
) -> None:
    assert dependency_of(ExceptionGroup("several", members)) == named


def test_a_group_within_itself_and_a_chain_that_bites_its_tail_come_to_an_end() -> None:
    error: Any = RuntimeError("outer")
    error.__cause__ = ValueError("inner")
    error.__cause__.__cause__ = error
    deep: BaseException = refused("https://a.example")
    for _ in range(100):
        deep = BaseExceptionGroup("", [deep])

    assert dependency_of(error) is None
    assert dependency_of(deep) == "a.example"


class HostileError(Exception):
    """Has attributes that raise, as proxies and half-made objects do."""

    def __getattribute__(self, name: str) -> object:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise RuntimeError(name)


def test_an_exception_whose_attributes_raise_names_nobody() -> None:
    assert dependency_of(HostileError()) is None


class OddError(Exception):
    """Carries whatever it is given, by the names that libraries use."""

    def __init__(self, name: str, value: object) -> None:
        super().__init__()
        setattr(self, name, value)


@given(
    st.sampled_from(["request", "response", "url", "host", "kwargs", "pool", "conn", "_state"]),
    st.one_of(
        st.none(), st.text(), st.integers(), st.binary(), st.lists(st.text()), st.just(MagicMock())
    ),
)
def test_whatever_an_exception_carries_an_answer_is_a_host_or_nobody(
    name: str, value: object
) -> None:
    found = dependency_of(OddError(name, value))

    assert found is None or (name == "host" and found.strip("[]") == str(value).lower().strip("[]"))
