"""The settings `retry.*` and `graphs.<id>.retry.*`: what they become, and how they are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from redrive.errors import SettingsError
from redrive.graphs.graph_settings import GraphSettings
from redrive.retry import (
    Backoff,
    Classifier,
    Decorrelated,
    Fibonacci,
    Fixed,
    Kind,
    Linear,
    RetryConfig,
    Rule,
)
from redrive.retry_settings import GraphRetrySettings, RetrySettings, RuleSettings
from redrive.settings import Settings, load_settings
from redrive.testing.manual_clock import ManualClock


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _load(toml: str = "", environ: Mapping[str, str] | None = None) -> Settings:
    Path("redrive.toml").write_text(toml, encoding="utf-8")
    return load_settings(environ=environ or {})


def _problems(toml: str = "", environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _load(toml, environ)
    return str(caught.value).splitlines()


def test_without_settings_the_policy_is_that_of_the_package() -> None:
    settings = _load()

    assert settings.policy() == RetryConfig()
    assert settings.retry.max_crashes == 3
    assert settings.retry.classifier() == Classifier()


@pytest.mark.parametrize(
    ("name", "backoff"),
    [
        ("exponential", None),
        ("linear", Linear(2.0, step=2.0, maximum=20.0)),
        ("fixed", Fixed(2.0, jitter=True)),
        ("fibonacci", Fibonacci(2.0, maximum=20.0)),
        ("decorrelated", Decorrelated(2.0, maximum=20.0)),
    ],
)
def test_a_backoff_is_built_from_the_delays(name: str, backoff: Backoff | None) -> None:
    toml = f'[retry]\nbackoff = "{name}"\ninitial_delay = "2s"\nmax_delay = "20s"\n'

    policy = _load(toml).policy()

    assert policy.backoff == backoff
    assert (policy.initial_delay, policy.max_delay) == (2.0, 20.0)


@pytest.mark.parametrize("name", ["exponential", "linear", "fixed", "fibonacci"])
def test_without_jitter_the_dice_change_nothing(name: str) -> None:
    policy = _load(f'[retry]\nbackoff = "{name}"\njitter = false\n').policy()

    assert policy.delay(3, 0.0) == policy.delay(3, 0.9) > 0


def test_kinds_and_the_limit_reach_the_policy_from_any_source() -> None:
    policy = _load(
        '[retry]\ntotal_limit = "10m"\n[retry.kinds]\nunknown = 0\ntimeout = 9\n',
        {"REDRIVE_RETRY__KINDS__TIMEOUT": "1", "REDRIVE_RETRY__KINDS__RATE_LIMITED": "7"},
    ).policy()

    assert policy.total_limit_s == 600.0
    assert [policy.retries_for(kind) for kind in Kind] == [3, 7, 1, 0, 0, 0, 0]


def test_rules_are_asked_in_their_order_before_the_tables() -> None:
    settings = _load(
        "[[retry.rules]]\n"
        'name = "stock"\nkind = "timeout"\nerror = "builtins.ValueError"\nmessage = "stock"\n'
        'retry_after = "2m"\n'
        '[[retry.rules]]\nkind = "transient"\nerror = "builtins.ValueError"\n'
        '[[retry.rules]]\nkind = "poison"\nstatus = 418\ncause = "builtins.KeyError"\n'
    )
    clock = ManualClock()

    classifier = settings.retry.classifier(clock)

    assert classifier == Classifier(
        rules=(
            Rule(
                Kind.TIMEOUT,
                error="builtins.ValueError",
                message="stock",
                retry_after=120.0,
                name="stock",
            ),
            Rule(Kind.TRANSIENT, error="builtins.ValueError"),
            Rule(Kind.POISON, status=418, cause="builtins.KeyError"),
        ),
        clock=clock,
    )
    assert classifier.classify(ValueError("no stock")).retry_after == 120.0
    assert classifier.classify(ValueError("no shop")).kind is Kind.TRANSIENT
    assert classifier.classify(TypeError()).kind is Kind.PERMANENT


def test_rules_of_the_environment_replace_those_of_the_file() -> None:
    toml = '[[retry.rules]]\nkind = "timeout"\nstatus = 404\n' * 2
    rules = [{"kind": "transient", "message": "^busy", "retry_after": "5s"}]

    whole = _load(toml, {"REDRIVE_RETRY__RULES": json.dumps(rules)})
    within = _load(toml, {"REDRIVE_RETRY": json.dumps({"rules": rules})})
    none = _load(toml, {"REDRIVE_RETRY__RULES": "[]"})

    assert [rule.message for rule in whole.retry.rules] == ["^busy"]
    assert within.retry == whole.retry
    assert none.retry.rules == ()


def test_what_a_graph_gives_replaces_the_general_key_and_no_other() -> None:
    settings = _load(
        '[retry]\nmax_retries = 5\ninitial_delay = "2s"\n[retry.kinds]\nunknown = 0\ntimeout = 2\n'
        '[graphs.plain]\ntarget = "a:b"\n'
        '[graphs.own]\ntarget = "a:c"\n'
        '[graphs.own.retry]\nmax_retries = 0\nbackoff = "fixed"\njitter = false\n'
        'total_limit = "1m"\nkinds = { timeout = 4 }\n',
        {"REDRIVE_GRAPHS__OWN__RETRY__MAX_DELAY": "3s"},
    )

    own = settings.policy("own")

    assert own.max_retries == 0
    assert own.backoff == Fixed(2.0)
    assert (own.initial_delay, own.max_delay, own.total_limit_s) == (2.0, 3.0, 60.0)
    assert own.kind_retries == {Kind.UNKNOWN: 0, Kind.TIMEOUT: 4}
    general = settings.policy()
    assert general.max_retries == 5
    assert settings.policy("plain") == settings.policy("not in the settings") == general


def test_a_graph_may_have_every_key_of_retries_that_concerns_it_alone() -> None:
    assert set(GraphRetrySettings.model_fields) == set(RetrySettings.model_fields) - {
        "longest_rest",
        "max_crashes",
        "rules",
    }


@pytest.mark.parametrize(
    ("toml", "problems"),
    [
        (
            (
                '[graphs.a]\ntarget = "a:b"\nretry = { initial_delay = "5m" }\n'
                '[graphs.b]\ntarget = "a:c"\nretry = { jitter = false, backoff = "decorrelated" }\n'
            ),
            [
                (
                    "graphs.a.retry in redrive.toml: max_delay is 60.0: "
                    "it must be at least initial_delay, 300.0"
                ),
                (
                    "graphs.b.retry in redrive.toml: backoff = decorrelated is a spread: "
                    "it cannot go without jitter"
                ),
            ],
        ),
        (
            '[retry]\nbackoff = "fibonacci"\ninitial_delay = "5m"\n',
            ["retry in redrive.toml: max_delay is 60.0: it must be at least initial_delay, 300.0"],
        ),
        (
            '[graphs.a]\ntarget = "a:b"\nmax_retries = 1\n',
            [
                (
                    "unknown key graphs.a.max_retries in redrive.toml: "
                    "did you mean graphs.a.retry.max_retries?"
                )
            ],
        ),
        (
            "[retry.kinds]\ntimeouts = 1\nzzz = 1\n",
            [
                (
                    "unknown key retry.kinds.timeouts in redrive.toml: "
                    "did you mean retry.kinds.timeout?"
                ),
                (
                    "unknown key retry.kinds.zzz in redrive.toml: known: transient, rate_limited, "
                    "timeout, permanent, poison, cancelled, unknown"
                ),
            ],
        ),
        (
            "[retry.kinds]\ntimeout = -1\n",
            ["retry.kinds.timeout in redrive.toml should be greater than or equal to 0"],
        ),
        (
            "[retry.kinds]\npermanent = 1\n",
            [
                (
                    "retry.kinds in redrive.toml: a failure of kind permanent is never retried: "
                    "give the error another kind, with a rule in retry.rules"
                )
            ],
        ),
        (
            "[retry]\nmax_crashes = 0\n",
            ["retry.max_crashes in redrive.toml should be greater than or equal to 1"],
        ),
        (
            '[retry]\nbackoff = "steep"\n',
            [
                (
                    "retry.backoff in redrive.toml should be 'exponential', 'linear', 'fixed', "
                    "'fibonacci' or 'decorrelated'"
                )
            ],
        ),
    ],
)
def test_a_policy_that_cannot_work_is_refused_where_it_was_given(
    toml: str, problems: list[str]
) -> None:
    assert _problems(toml) == problems


@pytest.mark.parametrize(
    ("rule", "problems"),
    [
        (
            'kind = "timeout"\nmessage = "("\n',
            [
                (
                    "retry.rules.2.message in redrive.toml: not a regular expression: "
                    "missing ), unterminated subpattern at position 0"
                )
            ],
        ),
        (
            'kind = "timeout"\nmassage = "x"\nstatus = 404\n',
            [
                (
                    "unknown key retry.rules.2.massage in redrive.toml: "
                    "did you mean retry.rules.2.message?"
                )
            ],
        ),
        (
            'kind = "timeout"\n',
            [
                (
                    "retry.rules.2 in redrive.toml: a rule needs a condition: "
                    "error, status, message or cause"
                )
            ],
        ),
        (
            "status = 404\n",
            ["retry.rules.2.kind is missing: retry.rules.2 is set in redrive.toml without it"],
        ),
        (
            'kind = "timeout"\nerror = "ValueError"\ncause = "shop:StockError"\n',
            [
                f"retry.rules.2.{key} in redrive.toml: not the name of a class: write it as "
                "package.Class or package.module.Class; a class of Python's own is "
                "builtins.ValueError, say"
                for key in ("error", "cause")
            ],
        ),
        (
            'kind = "later"\nstatus = 200\n',
            [
                (
                    "retry.rules.2.kind in redrive.toml should be 'transient', 'rate_limited', "
                    "'timeout', 'permanent', 'poison', 'cancelled' or 'unknown'"
                ),
                "retry.rules.2.status in redrive.toml should be greater than or equal to 300",
            ],
        ),
    ],
)
def test_a_rule_that_cannot_work_is_refused_by_its_number_and_key(
    rule: str, problems: list[str]
) -> None:
    first = '[[retry.rules]]\nkind = "timeout"\nstatus = 404\n'

    assert _problems(f"{first}[[retry.rules]]\n{rule}") == problems


def test_rules_that_are_no_tables_are_refused() -> None:
    assert _problems("[retry]\nrules = 1\n") == [
        "retry.rules in redrive.toml must be tables: [[retry.rules]]"
    ]
    assert _problems("[retry]\nrules = [1]\n") == ["retry.rules.1 in redrive.toml must be a table"]


def test_a_rule_of_the_environment_is_refused_by_the_name_of_the_variable() -> None:
    variable = "REDRIVE_RETRY__RULES"
    rules = [{"kind": "timeout", "messages": "x", "retry_after": "soon"}]

    assert _problems("[retry]\n", {variable: json.dumps(rules)}) == [
        (
            f"unknown key retry.rules.1.messages in the environment variable {variable}: "
            "did you mean retry.rules.1.message?"
        ),
        (
            f"retry.rules.1.retry_after in the environment variable {variable}: "
            "'soon' is not a duration: write it as 250ms, 30s, 5m, 2h or 7d"
        ),
    ]
    assert _problems("", {variable: "x"}) == [
        f"retry.rules in the environment variable {variable} must be a JSON array"
    ]
    assert _problems("", {f"{variable}__1__KIND": "timeout"}) == [
        f"retry.rules in the environment variable {variable}__1__KIND must be a JSON array"
    ]


def test_settings_made_by_hand_are_looked_at_as_well() -> None:
    graph = GraphSettings.model_validate({"target": "a:b", "retry": {"initial_delay": "2m"}})

    with pytest.raises(ValidationError, match=r"graphs\.a\.retry\n +max_delay is 60\.0"):
        Settings(graphs={"a": graph})
    with pytest.raises(ValidationError, match="needs a condition"):
        RuleSettings(kind=Kind.TIMEOUT)
