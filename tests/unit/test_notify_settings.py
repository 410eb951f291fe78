"""The settings `notify.*`, from every source; a URL is shown by none of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from redrive.errors import SettingsError
from redrive.notify.notify_settings import NotifySettings
from redrive.notify.rules import NotifyRule
from redrive.settings import load_settings, load_with_origins
from redrive.settings_report import holding

TEAM, MAIL = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "mailto://me:pw@example.com"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str = "", environ: Mapping[str, str] | None = None) -> NotifySettings:
    Path("redrive.toml").write_text(text, encoding="utf-8")
    return load_settings(environ=environ or {}).notify


def urls(settings: NotifySettings) -> dict[str, str]:
    return {name: url.get_secret_value() for name, url in settings.urls.items()}


def test_named_urls_come_from_a_table_and_each_from_a_variable_of_its_own() -> None:
    environ = {"REDRIVE_NOTIFY__URLS__ONCALL": MAIL, "REDRIVE_NOTIFY__URLS__TEAM": TEAM}

    settings = load('[notify.urls]\nteam = "json://old"\nother = "json://other"\n', environ)

    assert urls(settings) == {"team": TEAM, "other": "json://other", "oncall": MAIL}


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ('[notify]\nurls = ["slack://a", "json://b", "json://c"]\n', {}),
        ("", {"REDRIVE_NOTIFY__URLS": "slack://a json://b\njson://c"}),
        ("", {"REDRIVE_NOTIFY__URLS": '["slack://a", "json://b", "json://c"]'}),
        (
            "",
            {
                "REDRIVE_NOTIFY__URLS": '{"slack": "slack://a", "json": "json://b", "json-2": "json://c"}'
            },
        ),
    ],
)
def test_a_list_of_urls_is_named_by_their_services(text: str, environ: dict[str, str]) -> None:
    settings = load(text, environ)

    assert urls(settings) == {"slack": "slack://a", "json": "json://b", "json-2": "json://c"}


def test_rules_are_read_in_their_order() -> None:
    settings = load(
        f'[notify.urls]\nteam = "{TEAM}"\n'
        '[[notify.rules]]\nworkflow = "billing-*"\nreason = "result_*"\ncount = 5\nto = ["team"]\n'
        '[[notify.rules]]\nkind = "timeout"\nto = []\n'
    )

    assert [rule.rule() for rule in settings.rules] == [
        NotifyRule(("team",), workflow="billing-*", reason="result_*", count=5),
        NotifyRule((), kind="timeout"),
    ]


def test_alarms_go_to_all_channels_unless_some_are_named() -> None:
    both = {"REDRIVE_NOTIFY__URLS__A": TEAM, "REDRIVE_NOTIFY__URLS__B": MAIL}

    assert load(environ=both).alarm_channels == ("a", "b")
    assert load(environ={**both, "REDRIVE_NOTIFY__ALARMS": "b"}).alarm_channels == ("b",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[notify.urls]\nteam = "hunter2"\n', "team is not a URL"),
        ('[notify]\nurls = "json://hunter2"\n', "must be a table"),
        ('[notify]\nurls = [7, "hunter2"]\n', "notify.urls"),
        ('[[notify.rules]]\nto = ["hunter"]\n', "names the channel 'hunter'"),
        ('[notify]\nalarms = ["hunter"]\n', "names the channel 'hunter'"),
        ('[notify]\nwindow = "10ms"\n', "notify.window"),
        ("[[notify.rules]]\ncount = 3\n", "to is missing"),
        ('[[notify.rules]]\nto = []\nworkflows = "a"\n', "did you mean notify.rules.1.workflow?"),
    ],
)
def test_what_cannot_work_is_said_without_a_url(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(text)

    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.invariant("P15")
def test_no_url_is_shown_where_settings_are_printed() -> None:
    environ = {"REDRIVE_NOTIFY__URLS__TEAM": TEAM}
    settings = load(environ=environ)

    (held,) = [
        one for one in holding(load_with_origins(environ=environ)) if one.key == "notify.urls.team"
    ]
    assert held.value == "[redacted:secret]"
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "TIiajkdnlazkcOXrIdevi7FQ" not in shown
        assert "T1JJ3T3L2" not in shown
