from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.rows import rows

from redrive.consumer.worker_settings import DeliveryGuarantee
from redrive.errors import SettingsError
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.retry.retry_config import RetryConfig
from redrive.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _write(text: str, name: str = "redrive.toml") -> Path:
    file = Path(name)
    file.write_text(text, encoding="utf-8")
    return file


def _problems(
    environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=overrides, environ=environ or {})
    return str(caught.value).splitlines()


def test_without_any_source_the_defaults_hold() -> None:
    settings = load_settings(environ={})

    assert settings == Settings()
    assert settings.kafka.events_topic == "workflow-events"
    assert settings.worker.delivery is DeliveryGuarantee.EXACTLY_ONCE


def test_the_later_source_wins_key_by_key() -> None:
    _write(
        '[kafka]\ngroup_id = "file"\ndlq_topic = "file"\nevents_topic = "file"\n'
        'results_topic = "file"\n'
    )
    environ = {
        "KAFKA_DLQ_TOPIC": "known",
        "KAFKA_WORKFLOW_EVENTS_TOPIC": "known",
        "REDRIVE_KAFKA__EVENTS_TOPIC": "ours",
        "KAFKA_WORKFLOW_RESULTS_TOPIC": "known",
    }

    kafka = load_settings(overrides={"kafka.results_topic": "flag"}, environ=environ).kafka

    assert kafka.group_id == "file"
    assert kafka.dlq_topic == "known"
    assert kafka.events_topic == "ours"
    assert kafka.results_topic == "flag"
    assert kafka.bootstrap_servers == "localhost:9092"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
        ("KAFKA_WORKFLOW_EVENTS_TOPIC", "events_topic"),
        ("KAFKA_WORKFLOW_RESULTS_TOPIC", "results_topic"),
        ("KAFKA_DLQ_TOPIC", "dlq_topic"),
        ("KAFKA_CONSUMER_GROUP_ID", "group_id"),
    ],
)
def test_the_names_that_deployments_know_are_read(name: str, field: str) -> None:
    settings = load_settings(environ={name: "given"})

    assert getattr(settings.kafka, field) == "given"


def test_a_graph_of_a_flag_is_added_to_those_of_the_file() -> None:
    _write('[graphs.a]\ntarget = "file:a"\noutput = "file:out"\n[graphs.b]\ntarget = "file:b"\n')

    settings = load_settings(
        overrides={"graphs": {"a": {"target": "flag:a"}, "my.graph": {"target": "flag:c"}}},
        environ={},
    )

    assert {name: graph.target for name, graph in settings.graphs.items()} == {
        "a": "flag:a",
        "b": "file:b",
        "my.graph": "flag:c",
    }
    assert settings.graphs["a"].output == "file:out"


def test_the_file_is_the_named_one_before_that_of_the_variable() -> None:
    _write('[kafka]\ngroup_id = "default"\n')
    other = _write('[kafka]\ngroup_id = "variable"\n', "other.toml")
    named = _write('[kafka]\ngroup_id = "named"\n', "named.toml")
    environ = {"REDRIVE_CONFIG": str(other)}

    groups = [
        load_settings(environ={}).kafka.group_id,
        load_settings(environ=environ).kafka.group_id,
        load_settings(named, environ=environ).kafka.group_id,
    ]

    assert groups == ["default", "variable", "named"]


def test_durations_and_sizes_are_written_with_units_in_every_source() -> None:
    _write('[kafka]\nsession_timeout = "45s"\n[worker]\nbuffer = "16MiB"\n')

    settings = load_settings(
        overrides={"worker.grace": "1m 30s"}, environ={"REDRIVE_RETRY__INITIAL_DELAY": "250ms"}
    )

    assert settings.kafka.session_timeout == timedelta(seconds=45)
    assert settings.worker.buffer == 16 * 2**20
    assert settings.worker.grace == timedelta(seconds=90)
    assert settings.retry.config() == RetryConfig(initial_delay=0.25)


def test_the_retry_topic_follows_the_events_topic_unless_it_is_set() -> None:
    followed = load_settings(overrides={"kafka.events_topic": "orders"}, environ={})
    named = load_settings(
        overrides={"kafka.events_topic": "orders", "kafka.retry_topic": "later"}, environ={}
    )

    assert followed.kafka.retry_topic == "orders-retry"
    assert named.kafka.retry_topic == "later"
    assert KafkaSettings(events_topic="orders").retry_topic == "orders-retry"


def test_options_of_librdkafka_are_read_however_they_are_spelt() -> None:
    _write(
        "[kafka.config]\n"
        'sasl.username = "me"\n"socket.timeout.ms" = 100\n'
        '"enable.ssl.certificate.verification" = false\n'
    )
    environ = {"REDRIVE_KAFKA__CONFIG__SASL_PASSWORD": "123"}

    settings = load_settings(overrides={"kafka.config.client.id": "x"}, environ=environ)

    assert settings.kafka.config == {
        "sasl.username": "me",
        "socket.timeout.ms": "100",
        "enable.ssl.certificate.verification": "false",
        "sasl.password": "123",
        "client.id": "x",
    }


def test_a_table_can_be_given_as_json_in_the_environment() -> None:
    graphs = json.dumps({"My-Report": {"target": "reports:graph"}})

    settings = load_settings(environ={"REDRIVE_GRAPHS": graphs})

    assert settings.graphs["My-Report"].target == "reports:graph"


def test_an_empty_variable_counts_as_unset() -> None:
    settings = load_settings(environ={"KAFKA_DLQ_TOPIC": "", "REDRIVE_KAFKA__GROUP_ID": ""})

    assert settings == Settings()


@pytest.mark.parametrize(
    "name",
    [
        "REDRIVE_SERVICE_HOST",
        "REDRIVE_PORT",
        "REDRIVE_PORT_9090_TCP_ADDR",
        "REDRIVE_WORKER_SERVICE_PORT_METRICS",
        "REDRIVE_DEBUG",
        "REDRIVE_CACHE",
        "REDRIVE_LAST_EXIT",
        "REDRIVE_PARENT_PIPE",
    ],
)
def test_what_kubernetes_and_our_own_tools_set_is_no_unknown_key(name: str) -> None:
    assert load_settings(environ={name: "1"}) == Settings()


@rows(
    ("toml", "problem"),
    [
        (
            '[kafka]\ngroupid = "a"',
            "unknown key kafka.groupid in redrive.toml: did you mean kafka.group_id?",
        ),
        (
            'bootstrap_servers = "a"',
            "unknown key bootstrap_servers in redrive.toml: did you mean kafka.bootstrap_servers?",
        ),
        ("[kafak]\na = 1", "unknown key kafak in redrive.toml: did you mean kafka?"),
        (
            '[graphs.r]\ntarget = "a:b"\nouput = "a:c"',
            "unknown key graphs.r.ouput in redrive.toml: did you mean graphs.r.output?",
        ),
        (
            "[checkpoints]\nfrobnicate = 1",
            (
                "unknown key checkpoints.frobnicate in redrive.toml: known in checkpoints: "
                "url, ttl, verify, serializer, allowed_types, encryption_key, "
                "old_encryption_keys"
            ),
        ),
        (
            "[[retry.rules]]",
            "retry.rules.1.kind is missing: retry.rules.1 is set in redrive.toml without it",
        ),
        ("kafka = 3", "kafka in redrive.toml must be a table"),
        (
            '[kafka]\nsession_timeout = "soon"',
            (
                "kafka.session_timeout in redrive.toml: 'soon' is not a duration: "
                "write it as 250ms, 30s, 5m, 2h or 7d"
            ),
        ),
        (
            '[worker]\nbuffer = "much"',
            "worker.buffer in redrive.toml: 'much' is not a size: write it as 512B, 900kB or 64MiB",
        ),
        (
            "[worker]\nin_flight = 0",
            "worker.in_flight in redrive.toml should be greater than or equal to 1",
        ),
        (
            '[worker]\ndelivery = "twice"',
            "worker.delivery in redrive.toml should be 'exactly_once' or 'at_least_once'",
        ),
        (
            '[retry]\ninitial_delay = "100s"',
            "retry in redrive.toml: max_delay is 60.0: it must be at least initial_delay, 100.0",
        ),
        (
            "[kafka]\nevents_topic = 5",
            "kafka.events_topic in redrive.toml should be a valid string",
        ),
    ],
)
def test_a_file_that_cannot_work_is_refused_in_one_line(toml: str, problem: str) -> None:
    _write(toml)

    assert _problems() == [problem]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "REDRIVE_KAFKA__BOOTSTRAP_SERVER",
            "a",
            (
                "unknown key kafka.bootstrap_server in the environment variable "
                "REDRIVE_KAFKA__BOOTSTRAP_SERVER: did you mean kafka.bootstrap_servers "
                "(REDRIVE_KAFKA__BOOTSTRAP_SERVERS)?"
            ),
        ),
        (
            "REDRIVE_KAFKA_GROUP_ID",
            "a",
            (
                "unknown key kafka_group_id in the environment variable REDRIVE_KAFKA_GROUP_ID: "
                "did you mean kafka.group_id (REDRIVE_KAFKA__GROUP_ID)?"
            ),
        ),
        (
            "REDRIVE_GRAPHS",
            "reports:graph",
            "graphs in the environment variable REDRIVE_GRAPHS must be a JSON object",
        ),
        (
            "REDRIVE_WORKER__IN_FLIGHT",
            "many",
            (
                "worker.in_flight in the environment variable REDRIVE_WORKER__IN_FLIGHT "
                "should be a valid integer, unable to parse string as an integer"
            ),
        ),
    ],
)
def test_a_variable_that_cannot_work_is_refused_in_one_line(
    name: str, value: str, problem: str
) -> None:
    assert _problems({name: value}) == [problem]


def test_an_override_that_cannot_work_is_refused_in_one_line() -> None:
    problems = _problems(overrides={"worker.inflight": 3})

    assert problems == [
        "unknown key worker.inflight in the flags or overrides: did you mean worker.in_flight?"
    ]


def test_every_problem_of_every_source_is_named_at_once() -> None:
    _write("[worker]\nin_flight = 0\nspeed = 1\n")

    problems = _problems({"REDRIVE_WORKER__GRACE": "soon", "REDRIVE_NOTHING": "1"})

    assert len(problems) == 4


@pytest.mark.invariant("P15")
def test_a_refusal_shows_no_value_that_may_be_a_secret() -> None:
    _write('[kafka]\nconfig = "sasl.password=hush"\npassword = "hush"\n[graphs.r]\ntarget = 5\n')

    with pytest.raises(SettingsError) as caught:
        load_settings(environ={"REDRIVE_KAFKA__CONFIG": "hush"})

    assert "hush" not in str(caught.value)
    assert "hush" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "settings file mine.toml does not exist"),
        (b"[kafka", "settings file mine.toml is not TOML: "),
        (b"\xff\xfe", "settings file mine.toml cannot be read: "),
    ],
)
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, problem: str) -> None:
    if content is not None:
        Path("mine.toml").write_bytes(content)

    with pytest.raises(SettingsError, match="^" + problem):
        load_settings("mine.toml", environ={})


def test_the_tree_is_frozen() -> None:
    settings = Settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.worker = settings.worker  # type: ignore[misc]  # the point


def test_importing_the_settings_imports_no_heavy_library() -> None:
    script = (
        "import sys, redrive.settings\n"
        "print([m for m in ('langgraph', 'langchain_core', 'confluent_kafka') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
