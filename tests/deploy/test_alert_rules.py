"""The alert rules as promtool sees them, and as somebody reads them who is called at night."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # mkdocs brings it, without types
from tests.deploy.prometheus_tools import PrometheusTools
from tests.rows import rows

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
TEXT = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(TEXT)["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
NAMES = [rule["alert"] for rule in ALERTS]
LIMITS = {rule["record"] for rule in RULES if rule.get("record", "").startswith("redrive:limit:")}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False
    )


def test_promtool_takes_rules_and_configuration(tools: PrometheusTools) -> None:
    checked = run(tools.promtool, "check", "config", "prometheus.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


def test_each_alert_fires_when_it_should_and_not_before(tools: PrometheusTools) -> None:
    tested = run(tools.promtool, "test", "rules", "alerts_test.yml")

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_is_tested_to_fire() -> None:
    firing = set(
        re.findall(
            r'labels: .ALERTS\{alertname="(\w+)", alertstate="firing"',
            (FOLDER / "alerts_test.yml").read_text(encoding="utf-8"),
        )
    )

    assert firing == set(NAMES)


def test_each_alert_is_made_to_fire_by_its_fault() -> None:
    faults = Path(__file__).with_name("test_on_a_real_prometheus.py").read_text(encoding="utf-8")

    assert set(re.findall(r'"(Redrive\w+)"', faults)) == set(NAMES)


def test_each_limit_is_used_and_each_that_is_used_is_there() -> None:
    used = re.findall(r"scalar\((redrive:limit:\w+)\)", TEXT)

    assert sorted(set(used)) == sorted(LIMITS)


@rows("alert", ALERTS, ids=NAMES)
def test_an_alert_says_how_bad_it_is_and_leads_to_its_section(alert: dict[str, Any]) -> None:
    name, severity = alert["alert"], alert["labels"]["severity"]

    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert severity in {"critical", "warning"}
    assert alert["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
    assert f"\n## {name}\n" in PAGE
    assert f"| [{name}](#{name.lower()}) | {severity} |" in PAGE


def test_no_section_is_left_of_an_alert_that_is_gone() -> None:
    assert re.findall(r"^## (Redrive\w+)$", PAGE, flags=re.MULTILINE) == NAMES
