"""Records docs/pictures/dead-letters.svg: what `redrive dlq groups` and `dlq show` print.

Run it from the root of the repository: `python scripts/record_terminal.py`. It starts a real broker
and a real worker, lets runs of three graphs fail, and draws what the two commands printed.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from redrive.testing import LocalBroker, wait_until

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "dead-letters.svg"
COLUMNS = 100
LETTERS_WITHIN_S = 120.0
# The folder of the graphs has another name on each machine; in the picture it has this one.
SHOWN_FOLDER = "/srv/agents"

AGENTS = """\
from typing import TypedDict

import httpx
from langgraph.graph import START, StateGraph

from redrive import PermanentError


class State(TypedDict, total=False):
    data: str
    draft: str


async def research(state: State) -> State:
    return {"draft": "what is known"}


async def publish(state: State) -> State:
    raise PermanentError("the shelf 'finance' does not exist")


async def lookup(state: State) -> State:
    request = httpx.Request("GET", "https://crm.example.com/customers/17")
    httpx.Response(503, request=request).raise_for_status()
    return state


async def extract(state: State) -> State:
    return {"draft": {"amount": "12.00"}["iban"]}


report = StateGraph(State).add_sequence([research, publish]).add_edge(START, "research")
triage = StateGraph(State).add_sequence([research, lookup]).add_edge(START, "research")
invoice = StateGraph(State).add_node(extract).add_edge(START, "extract")
"""
RUNS = {"report": 3, "triage": 5, "invoice": 1}


def main() -> None:
    """Record the picture."""
    with tempfile.TemporaryDirectory() as name, LocalBroker() as broker:
        folder = Path(name)
        (folder / "agents.py").write_text(AGENTS, encoding="utf-8")
        environ = {
            **os.environ,
            "COLUMNS": str(COLUMNS),
            "FORCE_COLOR": "1",
            "TERM": "xterm-256color",
            "REDRIVE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "REDRIVE_RETRY__MAX_RETRIES": "2",
            "REDRIVE_RETRY__INITIAL_DELAY": "0.2",
        }
        redrive(folder, environ, "topics", "create", "--partitions", "4")
        with worker(folder, environ):
            for workflow, count in RUNS.items():
                for _ in range(count):
                    redrive(folder, environ, "send", workflow)
            wait_until(
                lambda: len(letters(folder, environ)) == sum(RUNS.values()),
                timeout_s=LETTERS_WITHIN_S,
                what="a letter of each run",
            )
        newest = letters(folder, environ, "--workflow", "report")[0]
        commands = [["dlq", "groups"], ["dlq", "show", str(newest["dlq_id"])]]
        printed = [(words, redrive(folder, environ, *words)) for words in commands]
    PICTURE.write_text(drawn(printed, folder), encoding="utf-8")


def redrive(folder: Path, environ: dict[str, str], *words: str) -> str:
    """Run a command, and return what it printed for its reader."""
    ran = subprocess.run(
        [sys.executable, "-m", "redrive", *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def letters(folder: Path, environ: dict[str, str], *flags: str) -> list[dict[str, object]]:
    """Return the letters on the topic, newest first."""
    listed = json.loads(redrive(folder, environ, "dlq", "list", "--json", *flags))
    found: list[dict[str, object]] = listed["letters"]
    return found


@contextmanager
def worker(folder: Path, environ: dict[str, str]) -> Iterator[None]:
    """Run a worker with the three graphs."""
    graphs = [f"--graph={workflow}=agents:{workflow}" for workflow in RUNS]
    command = [sys.executable, "-m", "redrive", "worker", "--worker-id", "worker-1", *graphs]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def drawn(printed: list[tuple[list[str], str]], folder: Path) -> str:
    """Return the commands and their output as a picture that needs no font from elsewhere."""
    screen = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    for words, text in printed:
        screen.print(Text(f"$ redrive {' '.join(words)}", style="bold green"))
        # A path may be known by a second name, where the folder for temporary files is a link.
        for known in (str(folder.resolve()), str(folder)):
            text = text.replace(known, SHOWN_FOLDER)  # noqa: PLW2901 - two names of one folder
        screen.print(Text.from_ansi(without_libraries(text)), no_wrap=True, overflow="ellipsis")
        screen.print()
    svg = screen.export_svg(title="redrive", unique_id="redrive")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def without_libraries(text: str) -> str:
    """Leave out the frames of libraries: where they are installed is not for everybody."""
    frame = rf'(?:  (?:\(\d+ more lines .*|  File "(?!{SHOWN_FOLDER}).*\n      .*)\n)+'
    return re.sub(frame, "    …\n", text)


if __name__ == "__main__":
    main()
