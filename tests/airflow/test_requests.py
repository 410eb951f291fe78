"""Who an event is, and what of an Airflow connection reaches our clients: pure."""

from __future__ import annotations

import re
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rows import rows

from redrive.airflow.connection import id_secret, kafka_settings, signer_of
from redrive.airflow.requests import EventExtras, event_id_of, request_of
from redrive.errors import SettingsError
from redrive.events import EventHeaders, WorkflowEvent
from redrive.kafka.client import admin_config
from redrive.kafka.end_offsets import end_offsets
from redrive.settings import load_settings
from redrive.signatures import Signer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = b"a secret of more than 32 characters"


@dataclass
class Task:
    dag_id: str = "dag"
    run_id: str = "run"
    task_id: str = "task"
    map_index: int | None = -1
    try_number: int = 1


def test_the_event_id_is_the_same_for_every_try() -> None:
    first, second = event_id_of(Task()), event_id_of(Task(try_number=2))

    assert first == second
    assert uuid.UUID(first).version == 5


@pytest.mark.parametrize(
    "other", [Task(dag_id="x"), Task(run_id="x"), Task(task_id="x"), Task(map_index=0)]
)
def test_every_part_of_a_tasks_name_makes_another_event(other: Task) -> None:
    assert event_id_of(other) != event_id_of(Task())


def test_names_that_read_alike_when_joined_are_different_events() -> None:
    one, other = Task(dag_id="a/b", run_id="c"), Task(dag_id="a", run_id="b/c")

    assert event_id_of(one) != event_id_of(other)


def test_a_task_that_is_not_mapped_is_one_task_however_airflow_writes_it() -> None:
    assert event_id_of(Task(map_index=None)) == event_id_of(Task(map_index=-1))


def test_the_event_id_with_a_secret_cannot_be_made_from_names_alone() -> None:
    plain, mine, others = (event_id_of(Task(), secret) for secret in (None, SECRET, b"x" * 32))

    assert len({plain, mine, others}) == 3
    assert event_id_of(Task(try_number=2), SECRET) == mine
    assert event_id_of(Task(map_index=None), SECRET) == mine
    assert (uuid.UUID(mine).version, uuid.UUID(mine).variant) == (8, uuid.RFC_4122)
    # Changed, the derivation would give tasks that are tried again another event.
    assert mine == "ba8ae397-cb32-8d75-b471-c25d00969a00"


@given(st.lists(st.tuples(*[st.text(max_size=3)] * 3, st.integers(-1, 2)), unique=True))
def test_no_two_tasks_have_one_id_with_a_secret_either(
    names: list[tuple[str, str, str, int]],
) -> None:
    ids = {event_id_of(Task(*name), SECRET) for name in names}

    assert len(ids) == len(names)
    assert all(uuid.UUID(each).version == 8 for each in ids)


def test_the_secret_is_the_connections_before_the_environments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("f" * 40 + "\n")
    extra: dict[str, object] = {"bootstrap.servers": "a:1"}
    of_connection = {**extra, "airflow.id_secret": SECRET.decode()}

    monkeypatch.delenv("REDRIVE_AIRFLOW__ID_SECRET", raising=False)
    assert id_secret(extra, conn_id="c") is None
    monkeypatch.setenv("REDRIVE_AIRFLOW__ID_SECRET", f"file:{file}")
    assert id_secret(extra, conn_id="c") == b"f" * 40
    assert id_secret(of_connection, conn_id="c") == SECRET
    # No client of Kafka's is told of it.
    assert kafka_settings(of_connection, conn_id="c").config == {}


@pytest.mark.invariant("P15")
@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("short", "fewer than 32 characters"),
        ("", "fewer than 32 characters"),
        (7, "must be text"),
        ("file:/etc/passwd", "refers to a file or a variable of this host"),
        ("env:HOME", "refers to a file or a variable of this host"),
    ],
)
def test_a_secret_of_a_connection_that_cannot_serve_is_refused_and_not_shown(
    secret: object, words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        id_secret({"airflow.id_secret": secret}, conn_id="my_kafka")

    assert "'my_kafka'" in str(caught.value)
    assert not secret or str(secret) not in str(caught.value)


def test_a_secret_of_the_environment_that_is_too_short_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDRIVE_AIRFLOW__ID_SECRET", "short")

    with pytest.raises(SettingsError, match="REDRIVE_AIRFLOW__ID_SECRET: it has fewer than 32"):
        id_secret({}, conn_id="c")
    with pytest.raises(SettingsError, match=r"airflow\.id_secret in the environment variable"):
        load_settings(environ={"REDRIVE_AIRFLOW__ID_SECRET": "short"})


KEY = "k" * 40
IN_CONNECTION = {"security.sign_with": "team", "security.signing_secret": KEY}
IN_ENVIRONMENT = {
    "REDRIVE_SECURITY__SIGN_WITH": "airflow",
    "REDRIVE_SECURITY__SIGNING_KEYS__AIRFLOW": "e" * 40,
}


def test_events_are_signed_by_the_key_of_the_connection_before_that_of_the_environment() -> None:
    environ = IN_ENVIRONMENT

    assert signer_of({}, conn_id="c", environ={}) is None
    assert signer_of({}, conn_id="c", environ=environ) == Signer("airflow", b"e" * 40)
    assert signer_of(IN_CONNECTION, conn_id="c", environ=environ) == Signer("team", KEY.encode())
    # No client of Kafka's is told of it.
    extra = {"bootstrap.servers": "a:1", **IN_CONNECTION}
    assert kafka_settings(extra, conn_id="c").config == {}


@pytest.mark.invariant("P15")
@rows(
    ("extra", "environ", "words"),
    [
        (IN_CONNECTION | {"security.signing_secret": "short"}, {}, "'my_kafka': .*needs 32"),
        (IN_CONNECTION | {"security.signing_secret": 7}, {}, "go together"),
        ({"security.sign_with": "team"}, {}, "go together"),
        ({"security.signing_secret": KEY}, {}, "go together"),
        (IN_CONNECTION | {"security.sign_with": "a b"}, {}, "is not a name for a key"),
        (IN_CONNECTION | {"security.signing_secret": "file:/etc/passwd"}, {}, "of this host"),
        ({}, {"REDRIVE_SECURITY__SIGN_WITH": "x"}, "signing_keys has none of that name"),
        ({}, {"REDRIVE_SECURITY__SIGNING_KEYS__A": "short"}, "REDRIVE_SECURITY__.*needs 32"),
    ],
)
def test_a_signing_key_that_cannot_serve_is_refused_and_not_shown(
    extra: dict[str, object], environ: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        signer_of(extra, conn_id="my_kafka", environ=environ)

    assert not {"short", KEY}.intersection(str(caught.value).split())


@pytest.mark.invariant("P8")
def test_the_request_carries_its_deadline_in_a_header() -> None:
    request = request_of(
        Task(), workflow_id="w", data={"a": 1}, timeout=timedelta(minutes=5), now=NOW
    )

    headers = EventHeaders.read(request.headers.write())
    event = WorkflowEvent.from_bytes(request.event.to_bytes())
    assert headers.deadline == round(NOW.timestamp() * 1000) + 300_000
    assert (event.source, event.workflow_run_id, event.payload.data) == ("airflow", "run", {"a": 1})


@pytest.mark.parametrize("data", ["text", None, [1], {1: "one"}])
def test_data_that_is_no_input_of_a_graph_is_refused(data: object) -> None:
    with pytest.raises(TypeError, match="'task' must be a dict"):
        request_of(Task(), workflow_id="w", data=data, timeout=timedelta(1), now=NOW)


def test_a_task_can_set_thread_metadata_headers_and_config() -> None:
    request = request_of(
        Task(),
        workflow_id="w",
        data={},
        timeout=timedelta(1),
        now=NOW,
        beside=EventExtras(
            thread="conversation-7",
            metadata={"langgraph": {"context": {"user_id": "u1"}}},
            headers={"x-tenant": "blue"},
            config={"model": "small"},
        ),
    )

    event = WorkflowEvent.from_bytes(request.event.to_bytes())
    assert EventHeaders.read(request.headers.write()).thread == "conversation-7"
    assert request.extra_headers == {"x-tenant": "blue"}
    assert event.metadata["langgraph"] == {"context": {"user_id": "u1"}}
    assert (event.metadata["dag_id"], event.metadata["task_id"]) == ("dag", "task")
    assert event.payload.model_extra == {"config": {"model": "small"}}


def test_a_task_that_sets_nothing_beside_its_data_sends_none_of_it() -> None:
    request = request_of(Task(), workflow_id="w", data={}, timeout=timedelta(1), now=NOW)

    assert request.event.payload.model_extra == {}
    assert request.headers == EventHeaders(deadline=request.deadline_ms)
    assert request.extra_headers == {}


@pytest.mark.parametrize(
    ("beside", "error", "words"),
    [
        (EventExtras(thread=" "), ValueError, "thread of task 'task' is empty"),
        (EventExtras(metadata="x"), TypeError, "metadata of task 'task' must be a dict"),
        (EventExtras(metadata={"dag_id": "x", "own": 1}), ValueError, "sets ['dag_id']"),
        (EventExtras(headers=["x"]), TypeError, "headers of task 'task' must be a dict"),
        (EventExtras(config={1: "x"}), TypeError, "config of task 'task' must be a dict"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_words(
    beside: EventExtras, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        request_of(Task(), workflow_id="w", data={}, timeout=timedelta(1), now=NOW, beside=beside)


def test_of_a_connection_only_what_concerns_every_client_is_taken() -> None:
    settings = kafka_settings(
        {
            "bootstrap.servers": "a:1,b:2",
            "group.id": "ours",
            "auto.offset.reset": "latest",
            "enable.auto.commit": False,
            "partitioner": "random",
            "error_cb": "some.module.function",
            "security.protocol": "SASL_SSL",
            "enable.ssl.certificate.verification": True,
            "socket.timeout.ms": 5000,
        },
        conn_id="c",
    )

    assert (settings.bootstrap_servers, settings.group_id) == ("a:1,b:2", "ours")
    assert settings.config == {
        "security.protocol": "SASL_SSL",
        "enable.ssl.certificate.verification": "true",
        "socket.timeout.ms": "5000",
    }


def test_topics_come_from_the_task_then_the_environment_then_their_usual_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_WORKFLOW_EVENTS_TOPIC", "of-the-environment")
    monkeypatch.delenv("KAFKA_WORKFLOW_RESULTS_TOPIC", raising=False)
    extra = {"bootstrap.servers": "a:1"}

    told = kafka_settings(extra, conn_id="c", events_topic="of-the-task")
    untold = kafka_settings(extra, conn_id="c")

    assert told.events_topic == "of-the-task"
    assert untold.events_topic == "of-the-environment"
    assert untold.results_topic == "workflow-results"


def test_results_that_name_no_record_are_refused_by_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extra = {"bootstrap.servers": "a:1"}
    untold = kafka_settings(extra, conn_id="c")
    monkeypatch.setenv("REDRIVE_KAFKA__REQUIRE_ANSWERS", "true")

    assert not untold.require_answers
    assert kafka_settings(extra, conn_id="c").require_answers


@pytest.mark.invariant("P15")
def test_what_cannot_work_is_refused_without_the_password_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extra = {"bootstrap.servers": "a:1", "sasl.password": "hunter2"}

    with pytest.raises(SettingsError, match="two of the topics are called 'one'") as same:
        kafka_settings(extra, conn_id="c", events_topic="one", results_topic="one")
    monkeypatch.setenv("REDRIVE_KAFKA__REQUIRE_ANSWERS", "perhaps")
    with pytest.raises(SettingsError, match=r"kafka\.require_answers: .*valid boolean") as odd:
        kafka_settings(extra, conn_id="c")

    assert "hunter2" not in f"{same.value} {odd.value}"


@pytest.mark.parametrize("extra", [{}, {"bootstrap.servers": " "}, {"bootstrap.servers": 1}])
def test_a_connection_without_brokers_is_named(extra: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="'my_kafka' names no brokers"):
        kafka_settings(extra, conn_id="my_kafka")


def test_a_token_function_that_airflow_does_not_allow_is_refused_with_the_providers_words() -> None:
    with pytest.raises(SettingsError, match=r"'c': the Kafka provider .* oauth_cb='a.b'"):
        kafka_settings({"bootstrap.servers": "a:1", "oauth_cb": "a.b"}, conn_id="c")


def test_a_token_function_that_airflow_allows_gives_every_client_its_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = f"{__name__}.token_of_ours"
    monkeypatch.setitem(sys.modules, __name__, sys.modules[token_of_ours.__module__])
    monkeypatch.setenv("AIRFLOW__APACHE_KAFKA__CALLBACK_ALLOWLIST", path)
    extra = {
        "bootstrap.servers": "a:1",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.config": "its own",
        "oauth_cb": path,
    }

    settings = kafka_settings(extra, conn_id="allowed")

    config = admin_config(settings)
    give = config["oauth_cb"]
    assert callable(give)
    assert give(config["sasl.oauthbearer.config"]) == ("of its own", 7)


def token_of_ours(config: str) -> tuple[str, float]:
    return f"of {config}", 7


def test_a_connection_to_msk_with_iam_gets_the_providers_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signer = ModuleType("aws_msk_iam_sasl_signer")
    signer.MSKAuthTokenProvider = SimpleNamespace(  # type: ignore[attr-defined]  # a stand-in
        generate_auth_token=lambda region: (f"signed for {region}", 9_000)
    )
    monkeypatch.setitem(sys.modules, signer.__name__, signer)
    servers = "b-1.demo.abcde1.c2.kafka.us-east-1.amazonaws.com:9098"
    extra = {"bootstrap.servers": servers, "sasl.mechanism": "OAUTHBEARER"}

    config = admin_config(kafka_settings(extra, conn_id="msk"))

    give = config["oauth_cb"]
    assert callable(give)
    assert give(config["sasl.oauthbearer.config"]) == ("signed for us-east-1", 9.0)


def test_a_connection_that_lacks_a_token_says_so_before_anything_is_asked() -> None:
    extra = {"bootstrap.servers": "127.0.0.1:1", "sasl.mechanism": "OAUTHBEARER"}
    settings = kafka_settings(extra, conn_id="c")

    with pytest.raises(SettingsError, match=r"nothing gives a token: set kafka\.oauth"):
        end_offsets(settings)
