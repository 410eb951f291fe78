"""Files of ours on the host: their owner's only, and never reached by a link that others made."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.rows import rows

from redrive.cli.editor import Draft
from redrive.dead_letter.spool import SourcePlace, Spool, SpooledLetter
from redrive.dead_letter.spool_count import SpoolCount
from redrive.errors import SettingsError
from redrive.graphs import CheckpointSettings
from redrive.graphs.checkpoint_file import connect, look_at, read_only
from redrive.private_files import open_private

LETTER = SpooledLetter(
    dlq_id="letter-1",
    topic="letters",
    value=b"{}",
    source=SourcePlace(topic="events", partition=0, offset=1),
)


@pytest.fixture(autouse=True)
def _mask_of_nothing() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def append(path: Path) -> None:
    Spool(path, max_bytes=2**20).append(LETTER)


@pytest.mark.invariant("P15")
def test_checkpoints_and_what_lies_beside_them_are_their_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"

    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE held (value TEXT)")
        made = {file.name: mode(file) for file in tmp_path.iterdir()}

    assert made == {"kept.db": 0o600, "kept.db-wal": 0o600, "kept.db-shm": 0o600}


@pytest.mark.invariant("P15")
def test_checkpoints_that_the_version_before_made_are_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    before = sqlite3.connect(path)
    before.execute("PRAGMA journal_mode=WAL")
    before.execute("CREATE TABLE held (value TEXT)")
    before.commit()

    with closing(before), closing(connect(path)) as after:
        modes = {mode(file) for file in tmp_path.iterdir()}
        tables = after.execute("SELECT count(*) FROM held").fetchone()

    assert (modes, tables) == ({0o600}, (0,))


def test_closing_a_file_to_others_takes_no_lock_of_another_connection(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    with closing(connect(path)) as first:
        first.execute("BEGIN IMMEDIATE")
        path.chmod(0o644)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connect_at_once(path)
        first.execute("COMMIT")


def connect_at_once(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redrive.graphs.checkpoint_file._BUSY_TIMEOUT_S", 0.05)
        connect(path).close()


@pytest.mark.invariant("P15")
def test_what_is_deleted_is_not_to_be_found_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    secret = "a-state-of-somebody" * 50
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE held (value TEXT)")
        connection.executemany("INSERT INTO held VALUES (?)", [(secret,)] * 20)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert secret.encode() in path.read_bytes()

        connection.execute("DELETE FROM held")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        assert b"a-state-of-somebody" not in path.read_bytes()


def _checkpoints(path: Path) -> object:
    return look_at(CheckpointSettings(url=f"sqlite:///{path}"))


@pytest.mark.invariant("P15")
@rows(
    "use",
    [
        connect,
        read_only,
        _checkpoints,
        append,
        lambda path: SpoolCount(path).now(),
        lambda path: open_private(path, os.O_WRONLY | os.O_CREAT),
    ],
    ids=["worker", "reader", "doctor", "spool", "spool count", "new file"],
)
def test_a_link_in_place_of_a_file_is_refused(
    use: Callable[[Path], object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("linked")
    target, dangling = folder / "target", folder / "none"
    target.write_bytes(b"")
    for aim in (target, dangling):
        link = folder / f"to-{aim.name}"
        link.symlink_to(aim)

        with pytest.raises((OSError, SettingsError), match="symbolic link"):
            use(link)

    assert target.read_bytes() == b""
    assert not dangling.exists()


@rows("suffix", ["-wal", "-shm", "-journal"])
def test_a_link_beside_the_checkpoints_is_refused(
    suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("beside")
    (folder / f"kept.db{suffix}").symlink_to(folder / "elsewhere")

    with pytest.raises(SettingsError, match="symbolic link"):
        connect(folder / "kept.db")


def test_a_spool_that_is_a_link_is_told_at_start(tmp_path: Path) -> None:
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")

    problem = Spool(tmp_path / "spool", max_bytes=1).problem()

    assert problem is not None
    assert "symbolic link" in problem


def test_a_fifo_in_place_of_a_file_is_refused_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spool")

    with pytest.raises(OSError, match="not a regular file"):
        append(tmp_path / "spool")


def test_a_folder_that_others_can_write_is_told_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with capture_logs() as logged:
        for _ in range(2):
            connect(tmp_path / "kept.db").close()

    told = [line for line in logged if line["event"] == "file.folder_open_to_others"]
    assert [(line["folder"], line["mode"]) for line in told] == [(str(tmp_path), "0777")]
    assert mode(tmp_path) == 0o777


def test_a_draft_lies_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    draft = Draft("{}")
    (draft.path.parent / "event.json~").write_text("an editor's copy")

    assert (mode(draft.path), mode(draft.path.parent)) == (0o600, 0o700)
    draft.drop()
    assert list(tmp_path.iterdir()) == []
