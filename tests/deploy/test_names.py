"""Alerts and dashboard ask for figures that there are, by labels that these have."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # mkdocs brings it, without types
from tests.rows import rows

from redrive.telemetry.instruments import Metric, MetricType
from redrive.telemetry.metrics import LETTER_FIGURES, WORKER_FIGURES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
GROUPS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
# What Prometheus itself puts on each series.
TARGET = {"job", "instance"}
NAME = re.compile(r"\b((?:redrive_|redrive:)[a-z0-9_:]+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right) ?\(([^)]*)\)")


def samples(metric: Metric) -> dict[str, set[str]]:
    """Return the names under which a figure is scraped, and the labels of each."""
    labels = {*metric.labels, *TARGET}
    if metric.type is MetricType.HISTOGRAM:
        parts = {f"{metric.name}_sum": labels, f"{metric.name}_count": labels}
        return {f"{metric.name}_bucket": {*labels, "le"}, **parts}
    return {metric.name: labels}


SAMPLES = {
    name: labels
    for metric in (*WORKER_FIGURES, *LETTER_FIGURES)
    for name, labels in samples(metric).items()
}


def queries() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


QUERIES = dict(queries())


@rows("expr", QUERIES.values(), ids=QUERIES)
def test_a_query_asks_for_what_there_is(expr: str) -> None:
    asked = {name for name, _ in NAME.findall(expr)}
    grouped = {
        label.strip() for part in GROUPING.findall(expr) for label in part.split(",") if label
    }
    known = {label for name in asked for label in SAMPLES.get(name, TARGET)}

    assert asked - RECORDED - SAMPLES.keys() == set()
    assert grouped - known == set()
    for name, matchers in NAME.findall(expr):
        matched = set(re.findall(r"(\w+)\s*[=!]~?", matchers))
        assert matched - SAMPLES.get(name, TARGET) == set()


@rows("rule", [rule for rule in RULES if "alert" in rule])
def test_an_alert_says_nothing_of_labels_that_it_does_not_have(rule: dict[str, Any]) -> None:
    said = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    asked = {name for name, _ in NAME.findall(rule["expr"])}

    labels = {*TARGET}
    for name in asked:
        labels |= SAMPLES.get(name) or recorded_labels(name)

    assert said - labels == set()


def recorded_labels(name: str) -> set[str]:
    (expr,) = (rule["expr"] for rule in RULES if rule.get("record") == name)
    return {label.strip() for part in GROUPING.findall(expr) for label in part.split(",")}


def test_every_figure_is_shown() -> None:
    shown = {name for panel in PANELS for name, _ in NAME.findall(json.dumps(panel["targets"]))}

    missing = [
        metric.name
        for metric in (*WORKER_FIGURES, *LETTER_FIGURES)
        if not samples(metric).keys() & shown
    ]

    assert missing == []


def test_the_dashboard_is_what_its_source_makes() -> None:
    made = subprocess.run(
        [sys.executable, "deploy/grafana/make_dashboard.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert made.stdout == (DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8")


@rows("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows_and_asks_the_chosen_prometheus(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_no_two_panels_share_a_place_or_a_number() -> None:
    panels = DASHBOARD["panels"]

    overlapping = [
        (one["title"], other["title"])
        for one, other in combinations(panels, 2)
        if overlap(one["gridPos"], other["gridPos"])
    ]

    assert overlapping == []
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "w"), ("y", "h"))
    )
