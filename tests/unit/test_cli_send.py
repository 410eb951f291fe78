"""`redrive send` refuses what cannot be sent before it asks for a broker."""

from __future__ import annotations

import pytest
from tests.rows import rows
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.errors import RecordError
from redrive.events import extra_headers

REFUSED = [
    (("--thread", " "), "--thread", "is empty"),
    (("--metadata", "[1]"), "--metadata", "is not an object"),
    (("--metadata", "{"), "--metadata", "is not JSON"),
    (("--metadata", "@nowhere.json"), "--metadata", "cannot be read"),
    (("--run-config", "7"), "--run-config", "is not an object"),
    (("--header", "novalue"), "--header", "is not NAME=VALUE"),
    (("--header", "=value"), "--header", "it needs a name"),
    (("--header", "redrive-count=9"), "--header", "are redrive's own"),
]


@rows("row", REFUSED)
def test_what_cannot_be_sent_is_refused_with_its_flag(
    row: tuple[tuple[str, ...], str, str],
) -> None:
    arguments, flag, words = row

    ran = CliRunner().invoke(app, ["send", "think", *arguments], env={"COLUMNS": "200"})

    assert ran.exit_code == 2
    assert f"Invalid value for {flag}" in ran.output
    assert words in ran.output


def test_headers_are_text_in_utf_8() -> None:
    assert extra_headers({"x-team": "blü", "traceparent": "00-1"}) == [
        ("x-team", "blü".encode()),
        ("traceparent", b"00-1"),
    ]
    for refused in ({"x": 1}, {"x": None}, {"x": "\ud800"}, {"redrive-of": "x"}, {"": "x"}):
        with pytest.raises(RecordError, match="header"):
            extra_headers(refused)
