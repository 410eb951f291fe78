"""Where Apache Kafka's jars come from: Maven fetches them once, into the user's cache.

Starting a broker from them is `redrive.testing.broker`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redrive.errors import SettingsError

__all__ = [
    "KAFKA_VERSION",
    "JarsError",
    "ToolMissingError",
    "cache_folder",
    "class_archive",
    "find_tool",
    "kafka_jars",
    "missing_tool",
]

KAFKA_VERSION = "4.3.1"

_FETCH_TIMEOUT_S = 300
_INSTALL = {
    "java": "Java 17 or newer (Debian: openjdk-17-jre-headless)",
    "mvn": "Apache Maven (Debian: maven)",
}
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>redrive</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class ToolMissingError(SettingsError):
    """A program that a local broker needs is not installed."""

    def __init__(self, tool: str) -> None:
        super().__init__(
            f"a local Kafka broker needs {tool!r}, which is not on the PATH: install "
            f"{_INSTALL[tool]}, or name a broker in KAFKA_BOOTSTRAP_SERVERS"
        )
        self.tool = tool


class JarsError(RuntimeError):
    """Maven could not fetch Kafka's jars. The message carries what it said."""


def cache_folder() -> Path:
    """Return where redrive keeps what it fetched: `$REDRIVE_CACHE`, else the user's cache."""
    named = os.environ.get("REDRIVE_CACHE")
    if named:
        return Path(named)
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path.home() / ".cache") / "redrive"


def find_tool(tool: str) -> str:
    """Return the path of `java` or `mvn`.

    Raises:
        ToolMissingError: It is not on the PATH.
    """
    path = shutil.which(tool)
    if path is None:
        raise ToolMissingError(tool)
    return path


def missing_tool() -> ToolMissingError | None:
    """Return why no local broker can be started here, or None when it can."""
    needed = ["java"] if _jars_folder().is_dir() else ["java", "mvn"]
    for tool in needed:
        if shutil.which(tool) is None:
            return ToolMissingError(tool)
    return None


def kafka_jars() -> Path:
    """Return the folder with Kafka's jars, fetching them at the first call (5 s, 44 MB).

    Raises:
        ToolMissingError: They have to be fetched and Maven is not installed.
        JarsError: Maven failed.
    """
    folder = _jars_folder()
    if folder.is_dir():
        return folder
    maven = find_tool("mvn")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder), tempfile.TemporaryDirectory(dir=folder.parent) as work:
        # Another process may have fetched them while this one waited.
        if not folder.is_dir():
            _fetch(maven, Path(work)).rename(folder)
    return folder


def class_archive() -> Path:
    """Return where `archive_classes` puts the classes of Kafka, for this Java.

    A JVM passes by an archive of another Java or of other jars, so each has its own.
    """
    java, jars = Path(find_tool("java")).resolve(), kafka_jars()
    of = f"{java} {java.stat().st_mtime_ns} {jars.stat().st_mtime_ns}"
    return jars.with_name(f"{jars.name}.{zlib.crc32(of.encode()):08x}.jsa")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out: Maven's own cache is not made for two at a time."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _jars_folder() -> Path:
    return cache_folder() / f"kafka-{KAFKA_VERSION}"


def _fetch(maven: str, work: Path) -> Path:
    jars = work / "jars"
    (work / "pom.xml").write_text(_POM, encoding="utf-8")
    command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    said = _run(command, work)
    if not any(jars.glob(f"kafka_2.13-{KAFKA_VERSION}.jar")):
        raise JarsError(f"Maven did not fetch Kafka {KAFKA_VERSION}; it said:\n{said}")
    return jars


def _run(command: Sequence[str], work: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, found on the PATH
            command, cwd=work, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as slow:
        raise JarsError(f"Maven did not fetch Kafka in {_FETCH_TIMEOUT_S} s") from slow
    return (done.stdout + done.stderr)[-2000:]
