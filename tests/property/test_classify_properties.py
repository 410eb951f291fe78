"""What holds for any error, whatever it carries: it is judged, and never by raising."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from redrive.retry import Failure, Kind, classify
from redrive.retry.classifier import CLASSES
from redrive.retry.retry_config import RETRYABLE
from redrive.retry.rules.codes import ERROR_CODES
from redrive.retry.rules.frames import CLIENTS
from redrive.testing.manual_clock import ManualClock

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
A_YEAR_S = 366 * 86400
NAMES = st.sampled_from(
    [*CLASSES, "grpc.RpcError", "google.auth.RefreshError", "mcp.MCPError", "openai.APIError"]
)
WORDS = st.sampled_from(
    [
        *ERROR_CODES,
        *(
            "Please try again in 6m0s.",
            "limit: 0",
            "per day",
            "Request too large",
            "api_key missing",
        ),
        *("Tunnel connection failed: 407", "502 Bad Gateway", "invalid_grant: told", "code: 429"),
    ]
)
TEXTS = st.text(max_size=40) | WORDS | st.lists(WORDS, max_size=4).map(" ".join)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=40)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "type", "status", "details", "retryDelay"]), inner
        )
    ),
    max_leaves=6,
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("retry-after", "retry-after-ms", "x-should-retry", "ratelimit", "x-ratelimit-reset"),
            *("x-ratelimit-remaining", "anthropic-ratelimit-tokens-reset"),
        ]
    ),
    SCALARS,
)
RESPONSES = st.builds(
    SimpleNamespace,
    status_code=st.integers(0, 700),
    headers=HEADERS,
    _content=st.binary(max_size=40) | st.just(b'{"error": {"code": "insufficient_quota"}}'),
)
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "status_code": st.integers(0, 700) | SCALARS,
        "code": VALUES,
        "type": VALUES,
        "body": VALUES,
        "error": VALUES,
        "errors": VALUES,
        "details": VALUES,
        "retry_after": VALUES,
        "headers": HEADERS | VALUES,
        "response": RESPONSES | VALUES,
        "retryable": VALUES,
    },
)


@st.composite
def errors(draw: st.DrawFn) -> Exception:
    package, _, name = draw(NAMES | st.just("some.Error")).rpartition(".")
    kind = type(name, (Exception,), {"__module__": package})
    error: Exception = kind(*draw(st.lists(TEXTS | VALUES, max_size=2)))
    for attribute, value in draw(ATTRIBUTES).items():
        setattr(error, attribute, value)
    return error


def _is_sound(failure: Failure) -> bool:
    wait_s = failure.retry_after
    return (
        failure.kind in Kind
        and bool(failure.rule)
        and bool(failure.why)
        and (wait_s is None or (failure.kind in RETRYABLE and 0 <= wait_s <= A_YEAR_S))
    )


@given(errors())
def test_any_error_is_judged_without_an_error(error: Exception) -> None:
    assert _is_sound(classify(error, clock=ManualClock(start=NOON)))


@given(
    st.sampled_from([*sorted(CLIENTS), "langchain_any.chat", "agent.nodes"]),
    st.sampled_from([ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError]),
    st.lists(TEXTS | VALUES, max_size=2),
)
def test_a_general_error_of_a_client_is_never_taken_for_a_bug_without_a_word_that_says_so(
    module: str, kind: type[Exception], told: list[object]
) -> None:
    space: dict[str, object] = {"__name__": module, "error": kind(*told)}
    try:
        exec("raise error", space)  # noqa: S102 - a frame of another module
    except Exception as error:  # noqa: BLE001 - to be judged
        failure = classify(error, clock=ManualClock(start=NOON))

    assert _is_sound(failure)
    if module != "agent.nodes" and failure.kind is Kind.PERMANENT:
        assert failure.rule.startswith(("answer:", "limit:", "text:"))
    if module == "agent.nodes" and kind is not RuntimeError:
        assert failure.kind is Kind.PERMANENT
