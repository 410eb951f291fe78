"""Secrets among the settings: where they may lie, and that no page shows one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.rows import rows
from typer.testing import CliRunner

from redrive.airflow.connection import kafka_settings
from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.errors import SettingsError
from redrive.kafka.client import admin_config
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.secret_values import is_reference, revealed
from redrive.settings import Settings, load_settings, load_with_origins
from redrive.settings_report import holding
from redrive.settings_sources import known_keys
from redrive.telemetry.redactor import BUILT_IN
from redrive.telemetry.secret_names import is_secret_name

SECRET_OPTIONS = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.jaas.config",
]
PLAIN_OPTIONS = [
    "sasl.username",
    "sasl.mechanism",
    "ssl.key.location",
    "ssl.keystore.location",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.assertion.private.key.file",
    "message.timeout.ms",
    "security.protocol",
]
# What people take for passwords: words, sentences, signs, forms of tokens, halves of others.
PASSWORDS = [
    "a", "ab", "abc", "1234", "0", "true", "none", "null", "None", "letmein", "secret", "password",
    "changeit", "hunter2", "correct horse battery staple", "correct-horse-battery", "Tr0ub4dor&3",
    "p@ss", "p@ss:word", "p=ss", "pa,ss", "pa;ss", "pa ss", " pass", "pass ", "pa'ss", 'pa"ss',
    "`pass`", "$PASS", "${PASS}", "$(pass)", "%PASS%", "{pass}", "{{pass}}", "<pass>", "[pass]",
    "(pass)", "pass\\word", "pass/word", "/etc/passwd", "C:\\pass", "#pass", "!pass", "?pass",
    "*****", "**********", "[redacted:secret]", "-", "--", "---", "=", "==", "=pass", "pass=",
    "&a=b", "a&b=c", "x.y.z", "eyJhbGciOi.J9.x", "ghp_" + "a" * 36, "AKIA" + "A" * 16,
    "sk-" + "b" * 40, "xoxb-1-2-abc", "glpat-" + "c" * 20, "dGVzdA==", "c2VjcmV0",
    "0123456789abcdef" * 2, "f" * 64, "00000000-0000-0000-0000-000000000001", "https://u:p@h/", "http://h",
    "postgres://u:p@h/d",
    "Bearer abc", "Basic dTpw", "user:pass", "u/p@//h", "ключ", "пароль", "密码", "パスワード", "ü",
    "naïve", "é" * 20, "🔑", "🔑 key", "\u202epass", "a\u200bb", "a\tb", "a\nb", "a\r\nb",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIEvQIBADANBg", "1e10",
    "0x1F", "1.5", "-1", "NaN", "yes", "no", "on", "2026-01-01", "12:30", "10m", "64MiB",
    "localhost:9092", "[1,2]", '{"a":1}', "a" * 300, "a b c d e f", "pass # comment", "env:",
    "env:1ABC", "file:", "file:relative", "FILE:/run/x", "ENV:X", "env :X", "env:A-B",
]  # fmt: skip


@pytest.mark.invariant("P15")
@rows("option", SECRET_OPTIONS)
def test_no_form_of_a_password_is_shown_in_part(option: str) -> None:
    assert len(PASSWORDS) >= 100
    assert list(shown_in_part(option)) == []


def shown_in_part(option: str) -> Iterator[tuple[str, str]]:
    """Yield the passwords of which `config show`, or the settings as text, show a part."""
    for password in PASSWORDS:
        loaded = load_with_origins(None, {"kafka.config": {option: password}}, {})
        shown = {one.key: one.value for one in holding(loaded)}
        told = repr(loaded.settings.kafka).count(password) > repr(KafkaSettings()).count(password)
        if shown[f"kafka.config.{option}"] != "[redacted:secret]" or told:
            yield option, password


@rows("option", PLAIN_OPTIONS)
def test_what_is_no_secret_is_shown(option: str) -> None:
    loaded = load_with_origins(None, {"kafka.config": {option: "plain"}}, {})

    assert {one.key: one.value for one in holding(loaded)}[f"kafka.config.{option}"] == "plain"


def test_no_other_setting_is_taken_for_a_secret() -> None:
    named = {".".join(path) for path in known_keys(Settings) if is_secret_name(path[-1])}

    assert named == {
        "airflow.id_secret",
        "checkpoints.encryption_key",
        "checkpoints.old_encryption_keys",
        "security.encryption_keys",
        "security.signing_keys",
    }


def test_where_a_secret_lies_is_shown(tmp_path: Path) -> None:
    given = {
        "checkpoints.encryption_key": f"file:{tmp_path}/key",
        "notify.urls": {"team": "env:HOOK", "other": "json://user:pass@host"},
        "kafka.config": {"sasl.password": "env:KAFKA_PASSWORD"},
    }
    shown = {one.key: one.value for one in holding(load_with_origins(None, given, {}))}

    assert shown["checkpoints.encryption_key"] == f"file:{tmp_path}/key"
    assert shown["notify.urls.team"] == "env:HOOK"
    assert shown["notify.urls.other"] == "[redacted:secret]"
    assert shown["kafka.config.sasl.password"] == "env:KAFKA_PASSWORD"


@pytest.mark.invariant("P15")
def test_tables_of_settings_show_no_secret_either() -> None:
    given = {"retry.rules": [{"kind": "transient", "message": "password=hunter2"}]}

    shown = {one.key: one.value for one in holding(load_with_origins(None, given, {}))}

    assert shown["retry.rules"] == (
        '[{"kind": "transient", "message": "password=[redacted:password]"}]'
    )


@rows(
    ("value", "is_one"),
    [
        ("env:DB_PASSWORD", True),
        ("file:/run/secrets/db", True),
        ("file:/run/secrets/db pass", True),
        ("env:1ABC", False),
        ("env:A-B", False),
        ("file:relative", False),
        ("file:hunter2", False),
    ],
)
def test_one_judge_says_what_a_reference_is(value: str, *, is_one: bool) -> None:
    """In the settings, in data and in text alike: what only looks like one is the secret itself."""
    assert is_reference(value) is is_one
    assert (BUILT_IN.within({"password": value})["password"] == value) is is_one
    assert (BUILT_IN.mask(f"password='{value}'") == f"password='{value}'") is is_one


@pytest.mark.invariant("P15")
def test_a_secret_is_read_from_where_it_lies_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    monkeypatch.setenv("KEY_PASSWORD", "of the variable")
    kafka = KafkaSettings(
        config={"sasl.password": f"file:{file}", "ssl.key.password": "env:KEY_PASSWORD"}
    )

    first = admin_config(kafka)
    file.write_text("second\n")
    second = admin_config(kafka)

    assert (first["sasl.password"], second["sasl.password"]) == ("first", "second")
    assert first["ssl.key.password"] == "of the variable"


@rows(
    "value, found",
    [
        ("plain", "plain"),
        ("file:relative", "file:relative"),
        ("env:A B", "env:A B"),
        ("env:THERE", "it"),
        ("env:", "env:"),
    ],
)
def test_what_is_no_reference_is_the_secret_itself(value: str, found: str) -> None:
    assert revealed(value, key="k", environ={"THERE": "it"}) == found


@pytest.mark.invariant("P15")
def test_a_secret_that_is_not_to_be_had_is_told_by_key_and_place(tmp_path: Path) -> None:
    empty, large, binary = tmp_path / "empty", tmp_path / "large", tmp_path / "binary"
    empty.write_bytes(b"\n")
    large.write_bytes(b"a" * 70_000)
    binary.write_bytes(b"\xffsecret")
    for value, why in [
        ("env:NOT_THERE", "NOT_THERE is not set"),
        (f"file:{tmp_path}/none", "No such file"),
        (f"file:{empty}", "is empty"),
        (f"file:{large}", "larger than"),
        (f"file:{binary}", "no UTF-8"),
    ]:
        with pytest.raises(SettingsError, match=why) as refused:
            revealed(value, key="kafka.config.sasl.password", environ={})
        assert str(refused.value).startswith("kafka.config.sasl.password: ")
        assert "\\xff" not in str(refused.value)


RUN_CODE = [
    ("plugin.library.paths", "/tmp/evil"),  # noqa: S108 - refused
    ("ssl.engine.location", "/tmp/evil.so"),  # noqa: S108 - refused
    ("ssl.engine.id", "evil"),
    ("ssl.providers", "evil"),
    ("sasl.kerberos.kinit.cmd", "touch /tmp/x"),
    ("sasl.kerberos.principal", "me; touch /tmp/x"),
    ("sasl.kerberos.principal", "$(touch /tmp/x)"),
    ("sasl.kerberos.keytab", '"; touch /tmp/x; "'),
    ("sasl.kerberos.keytab", "`touch /tmp/x`"),
    ("sasl.kerberos.service.name", "kafka\ntouch"),
    (" Plugin.Library.Paths", "evil"),
]


@pytest.mark.invariant("P15")
@rows("option, value", RUN_CODE)
def test_no_setting_loads_a_library_or_runs_a_command(
    option: str, value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    variable = f"REDRIVE_KAFKA__CONFIG__{option.strip().replace('.', '_').upper()}"
    file = tmp_path_factory.mktemp("settings") / "redrive.toml"
    file.write_text(f"[kafka.config]\n{json.dumps(option)} = {json.dumps(value)}\n")
    for named, environ in [(file, {}), (None, {variable: value})]:
        with pytest.raises(SettingsError, match="is refused"):
            load_settings(named, environ=environ)
    with pytest.raises(SettingsError, match="is refused"):
        kafka_settings({"bootstrap.servers": "b:1", option: value}, conn_id="c")


def test_a_usual_principal_is_taken() -> None:
    KafkaSettings(
        config={
            "sasl.kerberos.principal": "worker/host.example.com@EXAMPLE.COM",
            "sasl.kerberos.keytab": "/etc/security/worker.keytab",
        }
    )


@rows("value", ["file:/etc/passwd", "env:AIRFLOW__CORE__FERNET_KEY"])
def test_a_connection_of_airflows_reads_nothing_of_the_host(value: str) -> None:
    with pytest.raises(SettingsError, match="secrets backend"):
        kafka_settings({"bootstrap.servers": "b:1", "sasl.password": value}, conn_id="c")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logging: None) -> Path:
    del own_logging
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDRIVE_CONFIG", raising=False)
    file = tmp_path / "redrive.toml"
    file.write_text('[kafka]\ngroup_id = "of-the-file"\n')
    file.chmod(0o644)
    return file


def shown(*more: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(app, ["config", "show", "kafka.group_id", "--json", *more])
    return ran.exit_code, ran.stdout, ran.stderr


@pytest.mark.invariant("P15")
def test_a_file_that_nobody_named_is_told_on_stderr_and_nowhere_else(here: Path) -> None:
    code, out, told = shown()

    assert code == ExitCode.OK
    assert json.loads(out)["kafka.group_id"]["value"] == "of-the-file"
    assert told == f"settings: {here}\n"
    assert shown("--config", "redrive.toml")[2] == ""


@pytest.mark.invariant("P15")
@pytest.mark.parametrize("mode", [0o666, 0o646, 0o602, 0o664])
def test_a_file_that_others_can_write_is_taken_only_by_its_name(here: Path, mode: int) -> None:
    here.chmod(mode)
    if mode == 0o664:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file to another group")
        os.chown(here, -1, 12_345)

    code, out, _ = shown()

    assert code == ExitCode.SETTINGS
    assert out == ""
    with pytest.raises(SettingsError, match="is ignored: others can write to it") as refused:
        load_settings(environ={})
    assert "--config redrive.toml" in str(refused.value)
    assert load_settings("redrive.toml", environ={}).kafka.group_id == "of-the-file"
    named = load_settings(environ={"REDRIVE_CONFIG": "redrive.toml"})
    assert named.kafka.group_id == "of-the-file"


@pytest.mark.invariant("P15")
@pytest.mark.parametrize("what", ["file", "link"])
def test_a_file_of_another_user_is_not_taken(here: Path, what: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    if what == "file":
        os.chown(here, 12_345, -1)
    else:
        here.rename(here.with_name("target"))
        here.symlink_to("target")
        os.lchown(here, 12_345, -1)

    with pytest.raises(SettingsError, match="is ignored: it belongs to the user 12345"):
        load_settings(environ={})
