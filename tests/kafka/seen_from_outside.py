"""Reads a worker's figures and health over HTTP, as Prometheus and a kubelet would."""

import json
import socket
import urllib.error
import urllib.request
from collections import Counter
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

ANSWERS_S = 5.0


class Said(NamedTuple):
    """A probe's answer; status 0 when nobody listens."""

    status: int
    why: str


class Outside:
    """The address of one worker.

    Args:
        port: Its `metrics.port`.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def environ(self) -> dict[str, str]:
        """The settings that let a worker serve there."""
        return {"REDRIVE_METRICS__PORT": str(self.port), "REDRIVE_METRICS__HOST": "127.0.0.1"}

    def probe(self, path: str) -> Said:
        """Ask `/livez` or `/readyz`."""
        try:
            status, body = self._get(path)
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        except urllib.error.URLError:
            return Said(0, "nobody listens")
        return Said(status, str(json.loads(body)["why"]))

    def metrics(self, name: str, *labels: str) -> Counter[tuple[str, ...]]:
        """Return the samples of one figure by these labels, summed over the others."""
        _, body = self._get("/metrics")
        found: Counter[tuple[str, ...]] = Counter()
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                if sample.name == name:
                    at = tuple(sample.labels[label] for label in labels)
                    found[at] += sample.value  # type: ignore[assignment]  # a sum of floats
        return found

    def metric(self, name: str) -> float:
        """Return the sum of all samples of one figure."""
        return sum(self.metrics(name).values())

    def _get(self, path: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=ANSWERS_S) as answer:
            return answer.status, answer.read()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
