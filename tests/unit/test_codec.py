"""AES-GCM, a codec of the user's, and the settings that name them."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError
from tests.rows import rows

from redrive.airflow.host_settings import host_security
from redrive.codec import AesGcm
from redrive.errors import CodecError, MissingExtraError, SettingsError
from redrive.payloads import CLEAR, Payloads, Sealed
from redrive.security_settings import SecuritySettings
from redrive.settings import load_settings

NEW, OLD = bytes(range(32)), bytes(range(32, 64))
ABOUT = ("event", "7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10", "think")


def given(**keys: str) -> SecuritySettings:
    return SecuritySettings.model_validate(
        {"codec": "redrive.codec:AesGcm", "encryption_keys": keys}
    )


def written(key: bytes) -> str:
    return base64.b64encode(key).decode()


def changed(sealed: Sealed, at: int) -> Sealed:
    data = bytearray(base64.b64decode(sealed.data))
    data[at] ^= 1
    return sealed._replace(data=base64.b64encode(data).decode())


@pytest.mark.invariant("P15")
def test_the_first_key_encrypts_and_all_decrypt() -> None:
    before = Payloads(AesGcm({"old": OLD}))
    between = Payloads(AesGcm({"old": OLD, "new": NEW}))
    after = Payloads(AesGcm({"new": NEW, "old": OLD}))
    by_old, by_new = before.seal(b"{}", ABOUT), after.seal(b"{}", ABOUT)

    assert (by_old.label, by_new.label) == ("aesgcm/1 old", "aesgcm/1 new")
    assert [p.open(by_old, ABOUT) for p in (before, between, after)] == [b"{}"] * 3
    assert [p.open(by_new, ABOUT) for p in (between, after)] == [b"{}"] * 2
    with pytest.raises(CodecError, match="'aesgcm/1 new', and only these are known: aesgcm/1 old"):
        before.open(by_new, ABOUT)
    # A nonce of its own each time.
    assert by_new != after.seal(b"{}", ABOUT)


@pytest.mark.invariant("P15")
def test_what_was_changed_or_moved_is_not_decoded() -> None:
    payloads = Payloads(AesGcm({"new": NEW, "other": OLD}))
    sealed = payloads.seal(b'{"payload": {"data": {}}}', ABOUT)
    length = len(base64.b64decode(sealed.data))
    wrong = [
        *((changed(sealed, at), ABOUT) for at in (0, 11, 12, length - 17, length - 1)),
        (sealed._replace(label="aesgcm/1 other"), ABOUT),
        (sealed._replace(label="aesgcm/2 new"), ABOUT),
        (sealed._replace(data=sealed.data[:16]), ABOUT),
        (sealed._replace(data="no base64!"), ABOUT),
        (sealed._replace(data=""), ABOUT),
        (sealed, ("result", *ABOUT[1:])),
        (sealed, (ABOUT[0], "another", ABOUT[2])),
        (sealed, (*ABOUT[:2], "another")),
        (sealed, (*ABOUT[:1], '","'.join(ABOUT[1:]))),
    ]

    for one, about in wrong:
        with pytest.raises(CodecError):
            payloads.open(one, about)
    assert payloads.open(sealed, ABOUT) == b'{"payload": {"data": {}}}'


def test_a_key_is_32_bytes_in_base64_or_hex_or_lies_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(written(NEW) + "\n")
    urlsafe = base64.urlsafe_b64encode(b"\xfb" * 32).decode().rstrip("=")
    settings = given(a=written(NEW), b=OLD.hex(), c=urlsafe, d=f"file:{tmp_path}/key")
    payloads = settings.payloads()

    assert payloads.label == "aesgcm/1 a"
    assert Payloads(AesGcm({"a": NEW})).open(payloads.seal(b"x", ABOUT), ABOUT) == b"x"
    for name, key in {"b": OLD, "c": b"\xfb" * 32, "d": NEW}.items():
        sealed = Payloads(AesGcm({name: key})).seal(b"x", ABOUT)
        assert payloads.open(sealed, ABOUT) == b"x"


KEYS_REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "none": ({}, "AES-GCM needs a key: name one in security.encryption_keys"),
    "too short": (
        {"k": written(NEW[:31])},
        "security.encryption_keys.k has 31 bytes, not 32: `openssl rand -base64 32` makes one",
    ),
    "a password": (
        {"k": "correct horse battery"},
        "security.encryption_keys.k is neither base64 nor hex: `openssl",
    ),
    "hex of no hex": ({"k": "z" * 64}, "security.encryption_keys.k is neither base64 nor hex"),
    "no file": (
        {"k": "file:/not/there"},
        "security.encryption_keys.k: the file /not/there cannot be read",
    ),
    "no variable": (
        {"k": "env:NOT_SET_AT_ALL"},
        "security.encryption_keys.k: the environment variable NOT_SET_AT_ALL is not set",
    ),
}


@rows("keys, words", KEYS_REFUSED.values(), ids=KEYS_REFUSED)
def test_a_key_that_cannot_be_one_is_refused_in_words(keys: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        given(**keys).payloads()

    assert words in str(refused.value)
    assert not any(secret in str(refused.value) for secret in keys.values() if ":" not in secret)


NAMES_REFUSED: dict[str, dict[str, str]] = {
    "a key in the place of its name": {NEW.hex(): NEW.hex()},
    "another": {written(NEW): written(NEW)},
    "what a record cannot tell": {"two words": written(NEW)},
    "none": {"": written(NEW)},
}


@rows("keys", NAMES_REFUSED.values(), ids=NAMES_REFUSED)
def test_a_key_has_a_name_of_its_own(keys: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="name each key") as refused:
        given(**keys)

    assert written(NEW) not in str(refused.value.errors(include_input=False, include_url=False))


def test_the_order_of_keys_is_that_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "redrive.toml"
    file.write_text(
        f'[security]\ncodec = "redrive.codec:AesGcm"\n[security.encryption_keys]\n'
        f'2026 = "{written(NEW)}"\n2025 = "{written(OLD)}"\n'
    )
    variables = {
        "REDRIVE_SECURITY__CODEC": "redrive.codec:AesGcm",
        "REDRIVE_SECURITY__ENCRYPTION_KEYS": f'{{"z": "{written(NEW)}", "a": "{written(OLD)}"}}',
    }

    assert load_settings(file, environ={}).security.payloads().label == "aesgcm/1 2026"
    assert load_settings(environ=variables).security.payloads().label == "aesgcm/1 z"
    # Airflow's tasks read the same variables.
    assert host_security(variables).payloads().label == "aesgcm/1 z"
    assert host_security({}).payloads() is CLEAR
    with pytest.raises(SettingsError, match="encryption_keys without codec"):
        host_security({"REDRIVE_SECURITY__ENCRYPTION_KEYS": f'{{"z": "{written(NEW)}"}}'})
    with pytest.raises(SettingsError, match="did you mean"):
        host_security({"REDRIVE_SECURITY__CODECS": "x"})


def test_a_codec_may_only_decode_for_a_while() -> None:
    whole = given(k=written(NEW))
    sample = whole.model_copy(update={"encode": False}).payloads()

    assert (whole.payloads().label, sample.label) == ("aesgcm/1 k", None)
    assert sample.open(whole.payloads().seal(b"x", ABOUT), ABOUT) == b"x"


class Rot13:
    """Somebody's own codec, which gets its keys elsewhere."""

    label = "rot13"

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self.keys = keys

    def encode(self, plain: bytes, about: bytes) -> bytes:
        return bytes(b ^ 13 for b in plain) + about[:0]

    decode = staticmethod(lambda label, data, about: bytes(b ^ 13 for b in data))  # noqa: ARG005


def locked(keys: Mapping[str, bytes]) -> Rot13:
    raise RuntimeError(f"the vault is locked, I was given {keys}")


CODECS_REFUSED: dict[str, tuple[str, str]] = {
    "no module": ("not_there:Codec", "security.codec: 'not_there:Codec' does not exist"),
    "no path": ("codecs_of_a_test", "security.codec: 'codecs_of_a_test' does not exist"),
    "no class": ("codecs_of_a_test:label", "cannot be called"),
    "no codec": ("codecs_of_a_test:no_codec", "made a dict, which is no codec: it needs label"),
    "it raises": ("codecs_of_a_test:locked", "raised RuntimeError when it was called with"),
}


@pytest.fixture
def codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("codecs_of_a_test")
    vars(module).update(Rot13=Rot13, label="x", no_codec=dict, locked=locked)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("codecs")
@rows("path, words", CODECS_REFUSED.values(), ids=CODECS_REFUSED)
def test_what_is_no_codec_is_refused_in_words(path: str, words: str) -> None:
    settings = SecuritySettings.model_validate(
        {"codec": path, "encryption_keys": {"k": written(NEW)}}
    )
    with pytest.raises(SettingsError) as refused:
        settings.payloads()

    assert words in str(refused.value)
    assert "vault" not in str(refused.value)


@pytest.mark.usefixtures("codecs")
def test_a_codec_of_the_users_is_made_with_the_keys_or_without() -> None:
    with_key = given(k=written(NEW)).model_copy(update={"codec": "codecs_of_a_test:Rot13"})
    without = SecuritySettings(codec="codecs_of_a_test:Rot13")
    codecs = [settings.payloads().codec for settings in (with_key, without)]

    assert [vars(codec) for codec in codecs] == [{"keys": {"k": NEW}}, {"keys": {}}]
    sealed = without.payloads().seal(b"hello", ABOUT)
    assert (sealed.label, without.payloads().open(sealed, ABOUT)) == ("rot13", b"hello")


def test_without_the_extra_it_is_said_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)

    with pytest.raises(MissingExtraError, match=r"install redrive\[encryption\]"):
        given(k=written(NEW)).payloads()


SECRETS_WITHOUT_NAMES = {
    "hex": NEW.hex(),
    "base64": written(NEW),
    "two of them": f"{NEW.hex()} {OLD.hex()}",
    "a list": f'["{NEW.hex()}"]',
}


@pytest.mark.invariant("P15")
@rows("text", SECRETS_WITHOUT_NAMES.values(), ids=SECRETS_WITHOUT_NAMES)
def test_a_secret_that_is_given_without_a_name_never_becomes_one(text: str) -> None:
    for table in ("SECURITY__ENCRYPTION_KEYS", "SECURITY__SIGNING_KEYS", "NOTIFY__URLS"):
        with pytest.raises(SettingsError, match="must be a JSON object") as refused:
            load_settings(environ={f"REDRIVE_{table}": text})

        assert NEW.hex() not in str(refused.value)
        assert written(NEW) not in str(refused.value)
