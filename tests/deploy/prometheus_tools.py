"""Where `prometheus` and `promtool` come from: the PATH, else Debian's package, without root."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from redrive.testing.kafka_jars import cache_folder

_FETCH_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class PrometheusTools:
    """The two programs."""

    prometheus: str
    promtool: str


class ToolsMissingError(RuntimeError):
    """They are not installed, and cannot be fetched; the message says why."""


def prometheus_tools() -> PrometheusTools:
    """Return the programs, fetching them into redrive's cache at the first call (4 s, 19 MB).

    Raises:
        ToolsMissingError: They are not there and cannot be fetched.
    """
    found = [shutil.which(name) for name in ("prometheus", "promtool")]
    if not all(found):
        folder = cache_folder() / "prometheus"
        if not folder.is_dir():
            _fetch(folder)
        found = [str(folder / "usr" / "bin" / name) for name in ("prometheus", "promtool")]
    return PrometheusTools(*(str(path) for path in found))


def _fetch(folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ToolsMissingError(
            "prometheus and promtool are not on the PATH, and there is no apt-get to fetch "
            "Debian's package: install Prometheus"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prometheus-fetch-", dir=folder.parent) as work:
        _run("apt-get", "download", "prometheus", cwd=work)
        (package,) = Path(work).glob("prometheus_*.deb")
        unpacked = Path(work) / "unpacked"
        _run("dpkg", "-x", str(package), str(unpacked), cwd=work)
        try:
            unpacked.rename(folder)
        except OSError:
            # Another process came first; its copy is as good as ours.
            if not folder.is_dir():
                raise


def _run(*command: str, cwd: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as slow:
        raise ToolsMissingError(f"{command[0]} did not end in {_FETCH_TIMEOUT_S} s") from slow
    if done.returncode != 0:
        raise ToolsMissingError(
            f"prometheus and promtool are not on the PATH, and {' '.join(command)} failed "
            f"(is a run of `apt-get update` missing?): {(done.stdout + done.stderr)[-500:]}"
        )
