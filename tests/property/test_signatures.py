"""Signatures of records: whatever is changed or moved, the signature does not fit."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.errors import SettingsError
from redrive.security_settings import SecuritySettings
from redrive.settings import load_settings
from redrive.signatures import (
    SIGNATURE_HEADER,
    Require,
    Rights,
    Signed,
    SignedText,
    Signer,
    Subject,
    Unsigned,
    Verifier,
    Wrong,
)

OLD, NEW = b"o" * 32, b"n" * 32
VERIFIER = Verifier({"old": OLD, "new": NEW})
TEXT = SignedText(
    Subject.EVENT,
    "workflow-events",
    3,
    b"key",
    b'{"event_id": "e"}',
    ((b"redrive-thread".decode(), b"t"), ("redrive-deadline", b"17"), ("traceparent", b"00-1")),
)

HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["redrive-thread", "redrive-of", "redrive-count", "tenant"]),
        st.none() | st.binary(max_size=4),
    ),
    max_size=4,
).map(tuple)
TEXTS = st.builds(
    SignedText,
    st.sampled_from(Subject),
    st.sampled_from(["a", "b", "ab"]),
    st.integers(0, 12),
    st.none() | st.binary(max_size=3),
    st.none() | st.binary(max_size=6),
    HEADERS,
)


def with_signature(text: SignedText, signer: Signer) -> SignedText:
    return text._replace(headers=(*text.headers, signer.sign(text)))


def steering(text: SignedText) -> object:
    ours = [each for each in text.headers if each[0].startswith("redrive-")]
    return (*text[:-1], ours)


@pytest.mark.invariant("P15")
@given(TEXTS, TEXTS)
def test_a_signature_fits_its_own_record_and_no_other(one: SignedText, other: SignedText) -> None:
    signature = Signer("new", NEW).sign(one)

    judged = VERIFIER.judge(other._replace(headers=(*other.headers, signature)))

    assert (judged == Signed("new")) == (steering(one) == steering(other))


CHANGES = {
    "another kind": TEXT._replace(subject=Subject.STATE),
    "another topic": TEXT._replace(topic="workflow-events-dlq"),
    "another partition": TEXT._replace(partition=4),
    "another key": TEXT._replace(key=b"kez"),
    "no key": TEXT._replace(key=None),
    "one byte of the value": TEXT._replace(value=b'{"event_id": "f"}'),
    "no value": TEXT._replace(value=None),
    "an empty value": TEXT._replace(value=b""),
    "another thread": TEXT._replace(headers=(("redrive-thread", b"u"), *TEXT.headers[1:])),
    "no thread": TEXT._replace(headers=TEXT.headers[1:]),
    "no deadline": TEXT._replace(headers=TEXT.headers[:1]),
    "a header more": TEXT._replace(headers=(*TEXT.headers, ("redrive-of", b"x"))),
    "a header again": TEXT._replace(headers=(*TEXT.headers, ("redrive-thread", b"t"))),
    "another order": TEXT._replace(headers=TEXT.headers[1::-1]),
    "the edge of two parts": TEXT._replace(topic="workflow-events3", partition=3),
    "a value in the name": TEXT._replace(headers=(("redrive-threadt", b""), *TEXT.headers[1:])),
}


@pytest.mark.invariant("P15")
@rows("changed", CHANGES.values(), ids=CHANGES)
def test_nothing_of_a_record_can_be_changed(changed: SignedText) -> None:
    signature = Signer("old", OLD).sign(TEXT)

    judged = VERIFIER.judge(changed._replace(headers=(*changed.headers, signature)))

    assert isinstance(judged, Wrong)
    assert VERIFIER.judge(TEXT._replace(headers=(*TEXT.headers, signature))) == Signed("old")


def test_headers_of_others_may_come_on_the_way() -> None:
    sent = with_signature(TEXT, Signer("old", OLD))

    traced = sent._replace(headers=(("b3", b"1"), *sent.headers[3:], *sent.headers[:2]))

    assert VERIFIER.judge(traced) == Signed("old")


@given(st.integers(0, 42), st.sampled_from("ABCxyz019-_"))
def test_no_other_signature_fits(at: int, sign: str) -> None:
    name, value = Signer("old", OLD).sign(TEXT)
    start = value.rindex(b" ") + 1 + at
    other = value[:start] + sign.encode() + value[start + 1 :]

    judged = VERIFIER.judge(TEXT._replace(headers=(*TEXT.headers, (name, other))))

    assert isinstance(judged, Signed) == (other == value)


MAC = Signer("old", OLD).sign(TEXT)[1].split()[2]
FORMS = {
    "of an unknown key": b"v1 other " + MAC,
    "of another version": b"v2 old " + MAC,
    "cut": b"v1 old " + MAC[:-1],
    "longer": b"v1 old " + MAC + b"A",
    "padded": b"v1 old " + MAC + b"=",
    "in the other alphabet": b"v1 old " + base64.b64encode(b"\xff" * 32).rstrip(b"="),
    "without a key": b"v1 " + MAC,
    "with a blank more": b"v1  old " + MAC,
    "with a line end": b"v1 old " + MAC + b"\n",
    "no ASCII": b"v1 old " + b"\xff" * 43,
    "empty": b"",
    "nothing": None,
}


@rows("value", FORMS.values(), ids=FORMS)
def test_what_is_no_signature_is_wrong(value: bytes | None) -> None:
    judged = VERIFIER.judge(TEXT._replace(headers=(*TEXT.headers, (SIGNATURE_HEADER, value))))

    assert isinstance(judged, Wrong)


def test_two_signatures_are_wrong_and_none_is_none() -> None:
    twice = with_signature(with_signature(TEXT, Signer("old", OLD)), Signer("new", NEW))

    assert isinstance(VERIFIER.judge(twice), Wrong)
    assert isinstance(VERIFIER.judge(TEXT), Unsigned)


def test_keys_are_rotated_one_signs_and_all_verify() -> None:
    before, after = (
        with_signature(TEXT, Signer("old", OLD)),
        with_signature(TEXT, Signer("new", NEW)),
    )

    assert [VERIFIER.judge(one) for one in (before, after)] == [Signed("old"), Signed("new")]
    assert isinstance(Verifier({"new": NEW}).judge(before), Wrong)
    # A name says nothing: the secret does.
    assert isinstance(Verifier({"old": NEW}).judge(before), Wrong)


def test_a_key_with_rights_of_its_own_starts_these_workflows_and_speaks_of_no_letter() -> None:
    verifier = Verifier({"old": OLD}, Require.REFUSE, {"old": Rights(("report-*",), letters=False)})
    state = TEXT._replace(subject=Subject.STATE)

    assert verifier.may_start("old", "report-7")
    assert not verifier.may_start("old", "pay")
    assert verifier.judge(with_signature(TEXT, Signer("old", OLD))) == Signed("old")
    assert isinstance(verifier.judge(with_signature(state, Signer("old", OLD))), Wrong)


def test_what_counts_where_signatures_are_required() -> None:
    for require, counts in (Require.OFF, True), (Require.WARN, True), (Require.REFUSE, False):
        verifier = Verifier({"old": OLD}, require)
        assert verifier.believes(Unsigned()) is verifier.believes(Wrong("x")) is counts
        assert verifier.believes(Signed("old"))


def test_room_is_kept_for_a_signature_of_its_length() -> None:
    signer = Signer("a-name", OLD)

    assert len(signer.room[1]) == len(signer.sign(TEXT)[1])


def test_no_secret_is_shown() -> None:
    trust = SecuritySettings(signing_keys={"k": "s3cr3t" * 6}).trust()

    assert "s3cr3t" not in repr(trust)


@rows(
    ("given", "words"),
    [
        ({"signing_keys": {"k": "short"}}, "32"),
        ({"signing_keys": {"a b": "x" * 32}}, "is not a name for a key"),
        ({"signing_keys": {"a": "x" * 32, "b": "y" * 32}}, "sign_with"),
        ({"signing_keys": {"a": "x" * 32}, "sign_with": "b"}, "'b'"),
        ({"signing_keys": {"a": "x" * 32}, "producers": {"c": {"workflows": "*"}}}, "'c'"),
        ({"require": "refuse"}, "signing_keys"),
        ({"require": "warn"}, "signing_keys"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_words(given: object, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as failed:
        load_settings(overrides={"security": given}, environ={})

    assert "short" not in str(failed.value).split()
    assert "x" * 32 not in str(failed.value)


def test_keys_lie_in_files_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "v" * 32)
    environ = {
        "REDRIVE_SECURITY__SIGNING_KEYS__OPS": "env:A_KEY",
        "REDRIVE_SECURITY__SIGNING_KEYS__AIRFLOW": "w" * 40,
        "REDRIVE_SECURITY__SIGN_WITH": "ops",
        "REDRIVE_SECURITY__REQUIRE": "refuse",
        "REDRIVE_SECURITY__PRODUCERS__AIRFLOW__WORKFLOWS": "report-*, pay",
    }

    trust = load_settings(environ=environ).security.trust()

    assert trust.signer == Signer("ops", b"v" * 32)
    assert trust.verifier == Verifier(
        {"ops": b"v" * 32, "airflow": b"w" * 40},
        Require.REFUSE,
        {"airflow": Rights(("report-*", "pay"), letters=False)},
    )


def test_a_key_that_is_too_short_where_it_lies_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "short")
    settings = SecuritySettings(signing_keys={"k": "env:A_KEY"})

    with pytest.raises(SettingsError, match=r"security\.signing_keys\.k: .*32"):
        settings.trust()


def test_who_speaks_of_letters_signs_with_a_key_that_may() -> None:
    settings = load_settings(
        overrides={
            "security.signing_keys.a": "x" * 32,
            "security.producers.a.workflows": ["*"],
        },
        environ={},
    )

    assert settings.security.trust().signer is not None
    with pytest.raises(SettingsError, match=r"security\.producers\.a\.letters"):
        settings.security.trust(for_letters=True)
