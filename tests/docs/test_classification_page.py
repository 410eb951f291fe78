"""docs/classification.md: made from the tables; its example of settings is one that works."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from redrive.classification_reference import classification_reference
from redrive.retry import Fibonacci, Kind
from redrive.retry.classifier import SEVERITY
from redrive.retry.tables import table_lines
from redrive.settings import load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "classification.md").read_text(encoding="utf-8")


def test_the_page_is_the_one_that_the_tables_make() -> None:
    assert classification_reference() == PAGE, (
        "run: python -m redrive.classification_reference > docs/classification.md"
    )


def test_every_rule_stands_on_the_page_in_the_section_of_its_family() -> None:
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, flags=re.MULTILINE))

    missing = [
        line
        for line in table_lines()
        if f"| `{line.what}` | {line.kind.value} |" not in sections[line.family]
    ]

    assert missing == []


def test_the_order_of_a_groups_members_is_the_one_that_holds() -> None:
    assert ", ".join(f"`{kind.value}`" for kind in SEVERITY) + "." in PAGE


def test_the_example_of_rules_can_be_loaded_and_does_what_it_says(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    file = tmp_path / "redrive.toml"
    file.write_text(example, encoding="utf-8")

    settings = load_settings(file, environ={})

    error = type("StockError", (Exception,), {"__module__": "shop.stock"})("counting")
    judged = settings.retry.classifier().classify(error)
    assert (judged.kind, judged.retry_after) == (Kind.TRANSIENT, 120.0)
    assert judged.rule == "rule:stock is being counted"
    request = httpx.Request("GET", "http://localhost")
    refused = httpx.HTTPStatusError("no", request=request, response=httpx.Response(503))
    assert settings.retry.classifier().classify(refused).kind is Kind.PERMANENT
    assert settings.policy().backoff == Fibonacci()
    assert settings.policy().max_retries == 5
    assert settings.policy().retries_for(Kind.UNKNOWN) == 0
    assert settings.policy("report-agent").max_retries == 1
