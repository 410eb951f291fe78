"""The tutorial, followed word by word: its files, its commands, and what they print.

Blocks say by their title where they belong: a file's name, or a terminal. What a `text` block shows
must have been printed by the commands above it: ids are learnt from there, and used in the commands
that follow; times and places may differ.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from redrive.testing.worker_process import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', flags=re.DOTALL | re.MULTILINE)
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VARIES = re.compile(r"/\d@\d+")
PORT = "9092"
# These go on until they are ended.
LASTING = ("python -m redrive.testing", "redrive worker")


@dataclass
class Reader:
    """Someone who does what the page says."""

    folder: Path
    port: str
    environ: dict[str, str]
    ending: ExitStack
    ids: dict[str, str] = field(default_factory=dict)
    log: Path | None = None
    printed: str = ""

    def follow(self, language: str, title: str, text: str) -> None:
        text = text.replace(PORT, self.port)
        if language == "text":
            self.compare(text)
        elif title.startswith("terminal"):
            for line in text.splitlines():
                self.type(line)
        elif title != "once":
            (self.folder / title).write_text(text, encoding="utf-8")

    def type(self, line: str) -> None:
        for shown, real in self.ids.items():
            line = line.replace(shown, real)
        if line.startswith(LASTING):
            self.log = self.folder / f"{line.split()[1]}.log"
            self.ending.enter_context(started(line, self.folder, self.environ, self.log))
            return
        ran = subprocess.run(
            shlex.split(line),
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        self.log, self.printed = None, ran.stdout + ran.stderr

    def compare(self, text: str) -> None:
        for line in text.splitlines():
            pattern = re.compile(self.pattern(line), flags=re.MULTILINE)
            if self.log is not None:
                log = self.log
                wait_until(lambda: pattern.search(log.read_text()), timeout_s=60, what=line)  # noqa: B023
                continue
            found = pattern.search(self.printed)
            assert found is not None, f"not printed: {line}\n{self.printed}"
            new = [uuid for uuid in UUID.findall(line) if uuid not in self.ids]
            self.ids.update(zip(new, found.groups(), strict=True))

    def pattern(self, line: str) -> str:
        escaped = ""
        for part in re.split(f"({UUID.pattern}|{VARIES.pattern})", line.rstrip()):
            if UUID.fullmatch(part) and part not in self.ids:
                escaped += f"({UUID.pattern})"
            elif VARIES.fullmatch(part):
                escaped += VARIES.pattern
            else:
                escaped += re.escape(self.ids.get(part, part))
        return f"^{escaped}\\s*$"


@contextmanager
def started(line: str, folder: Path, environ: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            shlex.split(line), cwd=folder, env=environ, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def free_port() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return str(held.getsockname()[1])


@pytest.mark.usefixtures("broker_tools")
def test_the_tutorial_can_be_followed_word_by_word(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # The broker is the one that the reader starts, also where the environment names another.
    named = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
    environ = {**named, "PATH": path, "COLUMNS": "200"}
    with ExitStack() as ending:
        reader = Reader(tmp_path, free_port(), environ, ending)
        for language, title, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
            reader.follow(language, title, text)
        calls = (tmp_path / "worker.log").read_text(encoding="utf-8")

    assert (tmp_path / "shelf" / "report.txt").read_text() == "Report: what is known about rent"
    assert calls.count("research: ") == calls.count("write: ") == 1
