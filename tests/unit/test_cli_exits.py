from __future__ import annotations

import pytest

from redrive.cli.exits import (
    CommandError,
    ExitCode,
    after_first_contact,
    exit_code,
    needs_extra,
    report,
)
from redrive.errors import (
    FencedError,
    KafkaUnavailableError,
    MissingExtraError,
    NotStoredError,
    PermanentError,
    RedriveError,
    SettingsError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), 2),
        (MissingExtraError(module="langgraph", extra="worker"), 2),
        (KafkaUnavailableError("x"), 2),
        (NotStoredError("x"), 3),
        (FencedError("x"), 4),
        (PermanentError("x"), 1),
        (CommandError(ExitCode.KAFKA, "x"), 3),
    ],
)
def test_each_error_has_its_exit_code(error: RedriveError, code: int) -> None:
    assert exit_code(error) == code


def test_a_broker_that_goes_away_later_is_not_a_bad_setting() -> None:
    with pytest.raises(CommandError, match="gone") as caught, after_first_contact():
        raise KafkaUnavailableError("gone")

    assert exit_code(caught.value) is ExitCode.KAFKA


def test_a_missing_library_names_the_extra_to_install() -> None:
    with pytest.raises(MissingExtraError, match=r"install redrive\[worker\]"):  # noqa: SIM117 - the inner one is the act
        with needs_extra("langgraph", extra="worker"):
            raise ModuleNotFoundError("No module", name="langgraph.graph")


def test_a_missing_module_of_ones_own_stays_what_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="mine"), needs_extra("langgraph", extra="worker"):
        raise ModuleNotFoundError("No module named 'mine'", name="mine")


def test_every_line_of_an_error_is_a_line_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    report(SettingsError("one\ntwo"))

    assert capsys.readouterr().err == "redrive: one\nredrive: two\n"


def test_with_debug_set_the_traceback_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRIVE_DEBUG", "1")

    report(SettingsError("one"))

    assert "SettingsError: one" in capsys.readouterr().err
