"""What holds of the settings: where each value came from, as text, with no secret in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.rows import rows
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.settings import Settings, load_with_origins
from redrive.settings_report import DEFAULT, Holding, holding
from redrive.settings_sources import known_keys

FILE = """
[kafka]
group_id = "of-the-file"

[kafka.config]
"sasl.username" = "me"
"sasl.password" = "correct-horse-battery"

[graphs."my.report"]
target = "agents:graph"
timeout = "10m"

[retry.kinds]
timeout = 1

[[retry.rules]]
kind = "transient"
message = "replica"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "redrive.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def held(file: Path, environ: dict[str, str], **overrides: object) -> dict[str, Holding]:
    loaded = load_with_origins(file, overrides, environ)
    return {one.key: one for one in holding(loaded)}


def test_each_value_says_where_it_was_given(file: Path) -> None:
    environ = {"KAFKA_DLQ_TOPIC": "dead", "REDRIVE_WORKER__GRACE": "50s"}

    found = held(file, environ)

    assert found["kafka.group_id"] == Holding("kafka.group_id", "of-the-file", str(file))
    assert found["kafka.dlq_topic"].origin == "the environment variable KAFKA_DLQ_TOPIC"
    assert found["worker.grace"].value == "50s"
    assert found["worker.buffer"] == Holding("worker.buffer", "64MiB", DEFAULT)
    assert found["graphs.my.report.timeout"] == Holding(
        "graphs.my.report.timeout", "10m", str(file)
    )
    assert found["retry.kinds.timeout"].value == "1"
    assert found["retry.rules"].value == '[{"kind": "transient", "message": "replica"}]'


def test_the_later_source_wins_and_is_the_one_that_is_named(file: Path) -> None:
    environ = {"REDRIVE_KAFKA__GROUP_ID": "of-the-environment"}

    of_the_environment = held(file, environ)["kafka.group_id"]
    of_a_flag = held(file, environ, **{"kafka.group_id": "of-a-flag"})["kafka.group_id"]

    assert of_the_environment.origin == "the environment variable REDRIVE_KAFKA__GROUP_ID"
    assert (of_a_flag.value, of_a_flag.origin) == ("of-a-flag", "the flags or overrides")


@pytest.mark.invariant("P15")
def test_secrets_are_masked(file: Path) -> None:
    found = held(file, {"REDRIVE_KAFKA__CONFIG__SSL_KEY_PASSWORD": "tr0ub4dor"})

    assert found["kafka.config.sasl.username"].value == "me"
    assert "correct-horse" not in str(found)
    assert "tr0ub4dor" not in str(found)


# None is a secret of anybody: they are odd, as those of people and of generators are.
ODD = [
    "a", "1234", "hunter2", "correct horse battery", "a;b;c", "a&b=c", 'say "no"', "it's", "a\\nb",
    "p@ss:w/rd", "[redacted:x] and more", "100%25", "{a: b}", "a, b", "x=y", "\\u0022",
    "None of it", "<b>", " blanks ", "ünï",
]  # fmt: skip


@pytest.mark.invariant("P15")
@rows("password", ODD)
def test_of_a_secret_by_name_no_part_is_shown(password: str) -> None:
    given = {
        "kafka.config": {"sasl.password": password, "ssl.key.password": password},
        "kafka.group_id": "g",
    }

    found = {one.key: one.value for one in holding(load_with_origins(None, given, {}))}

    assert found["kafka.config.sasl.password"] == "[redacted:secret]"
    assert found["kafka.config.ssl.key.password"] == "[redacted:secret]"
    assert found["kafka.group_id"] == "g"


def test_every_key_is_there(file: Path) -> None:
    shown = held(file, {}).keys()
    # What users name stands in the place of `*`.
    wanted = {".".join(path) for path in known_keys(Settings) if "*" not in path}

    missing = {key for key in wanted if not any(f"{one}.".startswith(f"{key}.") for one in shown)}

    assert missing == set()


def test_the_command_shows_what_is_asked_for(
    file: Path, own_logging: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del own_logging
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("REDRIVE_CACHE", raising=False)
    config = ("--config", str(file))

    table = CliRunner().invoke(app, ["config", "show", "kafka", "--given", *config])
    programs = CliRunner().invoke(app, ["config", "show", "kafka.group_id", "--json", *config])
    nothing = CliRunner().invoke(app, ["config", "show", "nothing", *config])

    assert [line.split()[0] for line in table.stdout.splitlines()] == [
        "kafka.group_id",
        "kafka.config.sasl.username",
        "kafka.config.sasl.password",
    ]
    assert json.loads(programs.stdout) == {
        "kafka.group_id": {"value": "of-the-file", "from": str(file)}
    }
    assert (nothing.exit_code, nothing.stdout) == (ExitCode.OK, "nothing of that is set\n")
