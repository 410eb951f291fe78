"""`redrive classify`: an error is found or made, judged, and told for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.rows import rows
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.retry.tables import table_lines

SHOP = """
class StockError(Exception):
    def __init__(self, item, count):
        super().__init__(f"{count} of {item}")


class Mute(Exception):
    status_code = property(lambda self: 404)
    retry_after = property(lambda self: 9)

    def __str__(self):
        return "nothing to say"


class Limited(Exception):
    status_code = 429


class Nowhere(Exception):
    def __new__(cls, place):
        return super().__new__(cls)


empty = StockError("pens", 0)


def sell():
    raise ConnectionResetError("gone")


async def deliver():
    raise TimeoutError


def told():
    return KeyError("pen")


def which():
    return StockError


def leave():
    raise SystemExit(3)


def price():
    return 3


def needs(item):
    raise LookupError(item)
"""


@pytest.fixture(autouse=True)
def _own_folder(own_logging: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del own_logging
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "shop_of_classify.py").write_text(SHOP, encoding="utf-8")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["classify", *arguments])


def _judged(*arguments: str) -> dict[str, Any]:
    result = _run(*arguments, "--json")
    assert result.exit_code == ExitCode.OK, result.stderr
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


def _settings(text: str) -> None:
    Path("redrive.toml").write_text(text, encoding="utf-8")


@rows(
    ("name", "error", "kind"),
    [
        ("builtins:ConnectionResetError", "builtins.ConnectionResetError", "transient"),
        ("httpx:ConnectTimeout", "httpx.ConnectTimeout", "timeout"),
        ("shop_of_classify:StockError", "shop_of_classify.StockError", "unknown"),
        ("shop_of_classify:empty", "shop_of_classify.StockError", "unknown"),
        ("shop_of_classify:which", "shop_of_classify.StockError", "unknown"),
        ("shop_of_classify:sell", "builtins.ConnectionResetError", "transient"),
        ("shop_of_classify:deliver", "builtins.TimeoutError", "timeout"),
        ("shop_of_classify:told", "builtins.KeyError", "permanent"),
        ("shop_of_classify:leave", "builtins.SystemExit", "permanent"),
        ("redrive.errors:RecordError", "redrive.RecordError", "poison"),
        ("asyncio:CancelledError", "asyncio.CancelledError", "cancelled"),
    ],
)
def test_a_class_an_instance_and_what_a_function_raises_are_judged(
    name: str, error: str, kind: str
) -> None:
    judged = _judged(name)

    assert (judged["error"], judged["kind"]) == (error, kind)


def test_people_read_the_kind_the_rule_the_retries_and_the_end() -> None:
    _settings('[retry]\nmax_retries = 12\nbackoff = "linear"\njitter = false\n')

    result = _run("httpx:HTTPStatusError", "--status", "429", "--retry-after", "1m 30s")

    assert result.exit_code == ExitCode.OK
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "error httpx.HTTPStatusError",
        "kind rate_limited",
        "why httpx.HTTPStatusError with HTTP status 429 is rate_limited",
        "rule status:429",
        "Retry-After 90 s",
        "policy [retry]",
        "retries 12, after " + "90 s, " * 8 + "and so on, the last after 90 s",
        (
            "then a dead letter with reason retries_exhausted "
            "(rate_limited failure: 13 of 13 attempts)"
        ),
    ]


def test_a_program_reads_the_same() -> None:
    assert _judged("builtins:TimeoutError") == {
        "error": "builtins.TimeoutError",
        "kind": "timeout",
        "rule": "class:builtins.TimeoutError",
        "why": "builtins.TimeoutError is timeout",
        "retry_after_s": None,
        "graph": None,
        "retries": [
            {"least_s": 0.5, "most_s": 1.0},
            {"least_s": 1.0, "most_s": 2.0},
            {"least_s": 2.0, "most_s": 4.0},
        ],
        "ends": {"reason": "retries_exhausted", "why": "timeout failure: 4 of 4 attempts"},
    }


def test_what_is_never_retried_ends_with_its_own_reason() -> None:
    judged = _judged("redrive.errors:GraphChangedError")

    assert judged["retries"] == []
    assert judged["ends"]["reason"] == "graph_changed"


def test_rules_of_the_settings_come_first() -> None:
    _settings(
        '[[retry.rules]]\nname = "stock"\nkind = "rate_limited"\nretry_after = "7s"\n'
        'error = "shop_of_classify.StockError"\nmessage = "^sold out"\n'
    )

    with_it = _judged("shop_of_classify:StockError", "--message", "sold out today")
    without = _judged("shop_of_classify:StockError", "--message", "lost")

    assert (with_it["kind"], with_it["rule"]) == ("rate_limited", "rule:stock")
    assert with_it["retry_after_s"] == 7.0
    assert without["kind"] == "unknown"


def test_a_status_and_a_retry_after_are_read_as_those_of_a_service() -> None:
    judged = _judged("shop_of_classify:empty", "--status", "503", "--retry-after", "20")

    assert (judged["rule"], judged["retry_after_s"]) == ("status:503", 20.0)
    assert judged["retries"][0] == {"least_s": 20.0, "most_s": 21.0}


def test_a_status_that_is_given_replaces_the_one_of_the_class() -> None:
    assert _judged("shop_of_classify:Limited")["rule"] == "status:429"
    assert _judged("shop_of_classify:Limited", "--status", "503")["rule"] == "status:503"


def test_the_retries_are_those_of_the_graph_that_serves_the_workflow() -> None:
    _settings('[graphs."team-*"]\ntarget = "a:b"\nretry = { max_retries = 1 }\n')

    served = _judged("builtins:TimeoutError", "--workflow", "team-a")
    told = _run("builtins:TimeoutError", "--workflow", "team-a")
    unserved = _run("builtins:TimeoutError", "--workflow", "other", "--json")

    assert (served["graph"], len(served["retries"])) == ("team-*", 1)
    assert "[retry], with what [graphs.team-*.retry] gives" in told.stdout
    assert len(json.loads(unserved.stdout)["retries"]) == 3
    assert unserved.stderr.endswith(
        "no graph of the settings serves 'other': its retries are those of [retry]\n"
    )


@rows(
    ("arguments", "says"),
    [
        (["shop_of_classify"], "is not an import path"),
        (["no_such_module:Error"], "there is no module 'no_such_module'"),
        (["shop_of_classify:Nothing"], "shop_of_classify:Nothing does not exist"),
        (["shop_of_classify:price"], "gives an object of type int, not an exception"),
        (["shop_of_classify:needs"], "cannot be called without arguments"),
        (["shop_of_classify:Nowhere"], "cannot be created without arguments"),
        (["builtins:ExceptionGroup"], "cannot be created without arguments"),
        (["shop_of_classify:Mute", "--message", "x"], "what --message should set"),
        (["shop_of_classify:Mute", "--status", "500"], "what --status should set"),
        (["shop_of_classify:Mute", "--retry-after", "5"], "what --retry-after should set"),
    ],
)
def test_an_error_that_cannot_be_made_is_one_line_with_exit_code_2(
    arguments: list[str], says: str
) -> None:
    result = _run(*arguments)

    assert result.exit_code == ExitCode.SETTINGS
    (line,) = result.stderr.splitlines()
    assert line.startswith("redrive: ")
    assert says in line
    assert not result.stdout


def test_the_list_holds_the_rules_of_the_settings_and_all_that_are_built_in() -> None:
    _settings('[[retry.rules]]\nname = "mine"\nkind = "timeout"\nstatus = 404\n')

    listed = json.loads(_run("--list", "--json").stdout)

    assert listed[0] == {
        "family": "Rules of your own",
        "what": "rule:mine",
        "kind": "timeout",
        "meaning": "status=404",
    }
    assert [(rule["family"], rule["what"], rule["kind"]) for rule in listed[1:]] == [
        (line.family, line.what, line.kind.value) for line in table_lines()
    ]


def test_the_list_finds_a_text_in_any_column_and_prints_whole_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "20")

    result = _run("--list", "TOPIC_authorization")

    assert result.stdout == "permanent  kafka:29  Kafka  TOPIC_AUTHORIZATION_FAILED\n"
    assert _run("--list", "httpx.TransportError").stdout.split()[:2] == [
        "transient",
        "class:httpx.TransportError",
    ]


def test_a_text_that_no_rule_has_is_exit_code_1() -> None:
    result = _run("--list", "frobnicate")

    assert result.exit_code == ExitCode.ENDED_BADLY
    assert result.stderr == "redrive: no rule has 'frobnicate' in it\n"
