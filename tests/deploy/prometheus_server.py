"""A real Prometheus, as a process of its own, and what it answers."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.kafka.seen_from_outside import free_port

from redrive.clock import SYSTEM
from redrive.testing.worker_process import wait_until

ANSWERS_S = 10.0


class Firing(NamedTuple):
    """An alert that fires: its labels, and what it says."""

    labels: dict[str, str]
    annotations: dict[str, str]


class PrometheusServer:
    """A Prometheus that scrapes and evaluates each second.

    Args:
        address: Where it listens, as host:port.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._since = SYSTEM.now().timestamp()

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return what an expression is now."""
        return self._result("query", query=expr)

    def query_all(self, expr: str) -> list[dict[str, Any]]:
        """Return what an expression has been at each second since the start."""
        now = SYSTEM.now().timestamp()
        return self._result("query_range", query=expr, start=self._since, end=now, step=1)

    def firing(self) -> dict[str, Firing]:
        """Return the alerts that fire now, by name; of several, one."""
        answer = self._get("alerts")
        return {
            alert["labels"]["alertname"]: Firing(alert["labels"], alert["annotations"])
            for alert in answer["alerts"]
            if alert["state"] == "firing"
        }

    def evaluated(self) -> str:
        """Return when the rules were last evaluated: text that is another one each time."""
        return str([group["lastEvaluation"] for group in self._get("rules")["groups"]])

    def wait_for(self, *names: str, timeout_s: float = 60) -> dict[str, Firing]:
        """Return what fires, once these alerts do at the same time."""
        seen: dict[str, Firing] = {}

        def fire() -> bool:
            seen.clear()
            seen.update(self.firing())
            return set(names) <= seen.keys()

        try:
            wait_until(fire, timeout_s=timeout_s, what=f"{names} fire", every_s=0.2)
        except TimeoutError as late:
            late.add_note(f"what fires is {sorted(seen)}")
            raise
        return seen

    def wait_until_over(self, *names: str, timeout_s: float = 60) -> None:
        """Return once none of these alerts fires."""
        wait_until(
            lambda: not set(names) & self.firing().keys(),
            timeout_s=timeout_s,
            what=f"{names} are over",
            every_s=0.2,
        )

    def _result(self, path: str, **parameters: object) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self._get(path, **parameters)["result"]
        return result

    def _get(self, path: str, **parameters: object) -> dict[str, Any]:
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=ANSWERS_S) as answer:
            data: dict[str, Any] = json.loads(answer.read())["data"]
        return data


@contextmanager
def running_prometheus(
    program: str, folder: Path, *, rules: str, targets: Mapping[str, str]
) -> Iterator[PrometheusServer]:
    """Run a Prometheus on rules, as they are in a file, and targets by the name of their job."""
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    (folder / "prometheus.json").write_text(json.dumps(_config(targets)), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        "--config.file=prometheus.json",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    try:
        wait_until(lambda: _is_ready(address), timeout_s=60, what="Prometheus is ready")
        yield PrometheusServer(address)
    finally:
        process.kill()
        process.wait(10)


def _config(targets: Mapping[str, str]) -> dict[str, object]:
    # JSON is YAML, too.
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]}
            for job, target in targets.items()
        ],
    }


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
