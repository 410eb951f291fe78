from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.cli.exits import ExitCode

OF_THE_WORKER = ("langgraph", "langchain_core", "confluent_kafka", "airflow")


@pytest.fixture(autouse=True)
def _own_folder(own_logging: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del own_logging
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


def _run(*arguments: str, data: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=data)


def test_the_version_is_that_of_the_package() -> None:
    result = _run("--version")

    assert result.stdout == f"redrive {version('redrive')}\n"


def test_help_lists_the_exit_codes() -> None:
    printed = " ".join(_run("--help").stdout.split())

    assert "Exit codes: 0 success; 1 " in printed
    assert all(f"{code.value} {code.meaning}" in printed for code in ExitCode)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["worker", "--graph", "report"], "'report' is not ID=module:attribute"),
        (["worker", "--graph", "a=m:x", "--graph", "a=m:y"], "'a' is given twice"),
        (["worker", "--delivery", "twice"], "'twice' is not one of"),
        (["send", "report", "--data", "{"], "is not JSON"),
        (["send", "report", "--data", "[1]"], "is not an object"),
        (["send", "report", "--data", "@nothing.json"], "cannot be read"),
        (["send", "report", "--timeout", "soon"], "is not a duration"),
        (["send", ""], "is empty"),
        (["send"], "Missing argument"),
        (["dlq", "show"], "Missing argument"),
        (["classify"], "TARGET"),
        (["classify", "builtins:ValueError", "--status", "200"], "greater than or equal to 300"),
        (["classify", "builtins:ValueError", "--retry-after", "soon"], "is not a duration"),
        (["classify", "--list", "--status", "500"], "goes with the text alone"),
        (["topics", "create", "--partitions", "0"], "greater than or equal to 1"),
        (["nothing"], "No such command"),
    ],
)
def test_wrong_usage_is_explained_with_exit_code_2(arguments: list[str], words: str) -> None:
    result = _run(*arguments)

    assert result.exit_code == ExitCode.SETTINGS
    assert words in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["worker"],
        ["send", "report"],
        ["topics", "create"],
        ["topics", "verify"],
        ["dlq", "show", "x"],
        ["classify", "builtins:ValueError"],
    ],
)
def test_bad_settings_are_one_line_each_with_exit_code_2(command: list[str]) -> None:
    Path("mine.toml").write_text("[kafka]\ngroup = 'a'\n[worker]\nin_flight = 0\n")

    result = _run(*command, "--config", "mine.toml")

    assert result.exit_code == ExitCode.SETTINGS
    assert result.stderr.splitlines() == [
        "redrive: unknown key kafka.group in mine.toml: did you mean kafka.group_id?",
        "redrive: worker.in_flight in mine.toml should be greater than or equal to 1",
    ]


def test_a_flag_that_cannot_work_is_named() -> None:
    result = _run("worker", "--in-flight", "0")

    assert result.exit_code == ExitCode.SETTINGS
    assert result.stderr == (
        "redrive: worker.in_flight in the flags or overrides should be greater than or equal to 1\n"
    )


def test_graphs_of_flags_and_of_the_file_are_both_looked_for() -> None:
    Path("redrive.toml").write_text("[graphs.mine]\ntarget = 'no_such_module:graph'\n")

    worker = ("worker", "--processes", "0", "--log-level", "error")
    of_the_file = _run(*worker)
    of_the_flag = _run(*worker, "--graph", "mine=no_other_module:graph")

    assert of_the_file.exit_code == of_the_flag.exit_code == ExitCode.SETTINGS
    assert "redrive: graph 'mine': there is no module 'no_such_module'" in of_the_file.stderr
    assert "redrive: graph 'mine': there is no module 'no_other_module'" in of_the_flag.stderr


def test_several_workers_whose_settings_cannot_work_end_all_with_exit_code_2() -> None:
    worker = ("worker", "--processes", "2", "--worker-id", "w", "--graph", "*=no_such_module:g")
    command = [sys.executable, "-m", "redrive", *worker, "--log-format", "json"]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    started = [line["worker"] for line in lines if line["event"] == "supervisor.child_started"]
    said = {line for line in done.stderr.splitlines() if not line.startswith("{")}
    assert done.returncode == ExitCode.SETTINGS
    assert started == ["w-0", "w-1"]
    assert len(said) == 1
    assert said.pop().startswith("redrive: graph '*': there is no module 'no_such_module'")


def test_a_parent_keeps_what_its_worker_says_and_imports_no_kafka_and_no_graphs() -> None:
    script = (
        "import sys\n"
        "sys.argv = ['redrive', 'worker', '--graph', 'mine=no_such_module:graph']\n"
        "import redrive.cli\n"
        "try:\n    redrive.cli.main()\n"
        f"finally:\n    print('HEAVY', [m for m in {OF_THE_WORKER!r} if m in sys.modules])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )

    assert done.returncode == ExitCode.SETTINGS
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1
    assert said[0].startswith("redrive: graph 'mine': there is no module 'no_such_module'")
    assert done.stderr.count("supervisor.child_started") == 1


@pytest.fixture
def nobody() -> Iterator[str]:
    """Bind a port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize(
    "command",
    [
        ["send", "report"],
        ["send", "report", "--wait"],
        ["topics", "create"],
        ["topics", "verify"],
        ["dlq", "show", "x"],
    ],
)
def test_a_broker_that_is_not_there_is_one_line_with_exit_code_2(
    command: list[str], nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRIVE_KAFKA__STARTUP_TIMEOUT", "500ms")

    result = _run(*command, "--bootstrap-servers", nobody)

    assert result.exit_code == ExitCode.SETTINGS, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"redrive: no Kafka broker at {nobody} answered within 500ms ")
    assert not result.stdout


def test_ctrl_c_ends_a_command_with_exit_code_130() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(30)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        # A shell's background job ignores the signal, and so does what it starts.
        heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        program = f"{heard}; import redrive.cli; redrive.cli.main()"
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                program,
                "send",
                "report",
                "--wait",
                "--bootstrap-servers",
                address,
            ],
            env=os.environ | {"REDRIVE_KAFKA__STARTUP_TIMEOUT": "50s"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            connection.close()

    assert process.returncode == ExitCode.INTERRUPTED, errors
    assert "Traceback" not in errors


def test_whole_letters_are_not_written_to_a_terminal() -> None:
    ours, theirs = os.openpty()
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "redrive", "dlq", "export"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert ran.returncode == ExitCode.SETTINGS
    assert "redrive dlq export --output letters.jsonl" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no terminal for an editor: give --set PATH=VALUE"),
        (["--set", "a=1", "--event", "event.json"], "give --event or --set, not both"),
        (["--set", "a"], "'a' is not PATH=VALUE"),
    ],
)
def test_an_edit_needs_one_way_to_change_the_event(arguments: list[str], said: str) -> None:
    ran = _run("dlq", "edit", "letter-1", *arguments)

    assert ran.exit_code == ExitCode.SETTINGS
    assert said in ran.stderr
