"""OAUTHBEARER: a function of the user's gives every client its tokens; lacking ones are named."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
from structlog.testing import capture_logs

from redrive.clock import SYSTEM
from redrive.errors import SettingsError
from redrive.kafka.client import admin_config, consumer_config, producer_config, reader_config
from redrive.kafka.connect import make_admin, make_consumer, make_producer
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.tokens import msk_iam, token_function

OAUTH = {"sasl.mechanism": "OAUTHBEARER", "security.protocol": "SASL_PLAINTEXT"}
asked: list[str] = []
given = threading.Event()


def give_token(config: str) -> tuple[str, float]:
    asked.append(config)
    given.set()
    return "a-token", SYSTEM.now().timestamp() + 3600


def settings(oauth: str | None, **more: str) -> KafkaSettings:
    config = OAUTH | {name.replace("_", "."): value for name, value in more.items()}
    return KafkaSettings(bootstrap_servers="127.0.0.1:1", oauth=oauth, config=config)


@pytest.mark.parametrize("kind", ["admin", "worker", "reader", "producer"])
def test_every_client_gets_its_tokens_from_the_function(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "our_tokens", sys.modules[give_token.__module__])
    mine = settings("our_tokens:give_token", sasl_oauthbearer_config=f"for {kind}")
    given.clear()

    match kind:
        case "admin":
            client: object = make_admin(admin_config(mine))
        case "worker":
            client = make_consumer(consumer_config(mine))
        case "reader":
            client = make_consumer(reader_config(mine))
        case _:
            client = make_producer(producer_config(mine, transactional_id="t"))

    assert given.wait(20)
    assert asked[-1] == f"for {kind}"
    del client


@pytest.mark.parametrize("build", [admin_config, consumer_config, producer_config, reader_config])
def test_a_mechanism_that_lacks_its_token_is_named_with_what_to_do(build: object) -> None:
    assert callable(build)
    with pytest.raises(SettingsError, match="OAUTHBEARER, and nothing gives a token"):
        build(settings(None))


@pytest.mark.parametrize(
    "gives", [{"sasl_oauthbearer_method": "oidc"}, {"sasl_mechanism": "SCRAM-SHA-512"}]
)
def test_who_needs_no_function_needs_none(gives: dict[str, str]) -> None:
    assert "oauth_cb" not in admin_config(settings(None, **gives))


@pytest.mark.parametrize("path", ["nowhere.at_all:f", "json:no_such", "json", "json:__name__"])
def test_a_path_that_names_no_function_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match=f"kafka.oauth: {path!r}"):
        token_function(path)


def test_a_function_that_fails_says_why_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("failing_tokens")

    def fail(_: str) -> tuple[str, float]:
        raise ValueError("denied: password=hunter2secret")

    module.fail = fail  # type: ignore[attr-defined]  # a stand-in
    monkeypatch.setitem(sys.modules, module.__name__, module)

    with capture_logs() as logs, pytest.raises(ValueError, match="denied"):
        token_function("failing_tokens:fail")("")

    (line,) = logs
    assert (line["event"], line["oauth"]) == ("kafka.no_token", "failing_tokens:fail")
    assert "denied" in line["error"]
    assert "hunter2secret" not in line["error"]


def test_msk_is_asked_for_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = ModuleType("aws_msk_iam_sasl_signer")
    signer.MSKAuthTokenProvider = SimpleNamespace(  # type: ignore[attr-defined]  # a stand-in
        generate_auth_token=lambda region: (f"signed for {region}", 9_000)
    )
    monkeypatch.setitem(sys.modules, signer.__name__, signer)

    assert msk_iam("eu-west-1") == ("signed for eu-west-1", 9.0)
    with pytest.raises(SettingsError, match="region"):
        msk_iam("")
