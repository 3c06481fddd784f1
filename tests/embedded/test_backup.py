"""`tailor backup` and `tailor restore` on data directories, as commands."""

import os
import pty
import re
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from app.cli import main
from app.db import close_engine, make_engine, migrate, session_factory, transaction
from app.embedded import start_postgres
from app.embedded.directory import hold
from app.embedded.keyfile import ensure_key
from app.embedded.postgres import processes_on
from app.projects import authenticate
from app.storage.blobs import CHUNK_BYTES, put
from app.storage.database import DatabaseBlobStore
from app.tables import StoredFile

BLOB_BYTES = 32 * CHUNK_BYTES


@contextmanager
def database(directory: Path) -> Iterator[tuple]:
    """The database of a data directory while this lasts: sessions and blobs."""
    server = start_postgres(directory / "postgres", durable=False, log=directory / "logs" / "test.log")
    engine = make_engine(server.url)
    sessions = session_factory(engine)
    try:
        yield server, sessions, DatabaseBlobStore(sessions)
    finally:
        close_engine(engine)
        server.stop()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped data directory with a key and a blob."""
    directory = tmp_path_factory.mktemp("source") / "data"
    with hold(directory), database(directory) as (server, sessions, blobs):
        migrate(server.url)
        ensure_key(sessions, directory / "api_key")
        ref = put(blobs, (os.urandom(CHUNK_BYTES) for _ in range(BLOB_BYTES // CHUNK_BYTES)))
        with transaction(sessions) as session:
            session.add(StoredFile(owner_id="m", path="p", bytes=ref.bytes, sha256=ref.sha256, blob_id=ref.id))
    return directory


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the caller's."""
    for name in [name for name in os.environ if name.startswith("TAILOR_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the stopped directory."""
    file = tmp_path_factory.mktemp("made") / "backup.zip"
    assert main(["backup", str(file), f"--data-dir={source}"]) == 0
    return file


def holds_what_was_backed_up(directory: Path, source: Path) -> bool:
    """Whether key and bytes are those of the source."""
    with database(directory) as (_, sessions, blobs), transaction(sessions) as session:
        assert authenticate(session, (directory / "api_key").read_text().strip()).project == "default"
        [file] = session.query(StoredFile).all()
        assert sum(map(len, blobs.read(file.blob_id))) == BLOB_BYTES
    return (directory / "api_key").read_text() == (source / "api_key").read_text()


def command(*arguments: object, **options) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *map(str, arguments)], stderr=subprocess.PIPE, text=True, **options
    )


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.005)


def test_a_stopped_directory_comes_back_in_a_new_one(source: Path, made: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "a" / "its new place"
    assert main(["restore", str(made), f"--data-dir={target}"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Restored 32 MiB as of ")
    assert f"Go on with: tailor up --data-dir '{target}'\n" in said.err
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((target / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE((target / "api_key").stat().st_mode) == 0o600
    assert {path.name for path in target.iterdir()} == {"api_key", "logs", "postgres", "tailor.lock"}
    assert [path.name for path in (target / "postgres").iterdir()] == ["data"]
    assert holds_what_was_backed_up(target, source)


def test_only_its_user_reads_a_backup_and_the_server_is_stopped_again(source: Path, made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert [path.name for path in made.parent.iterdir()] == [made.name]
    assert processes_on(source / "postgres" / "data") == []


def test_a_running_directory_is_backed_up_through_its_own_server(source: Path, tmp_path: Path) -> None:
    with hold(source), database(source) as (server, _, _):
        assert main(["backup", str(tmp_path / "b.zip"), f"--data-dir={source}"]) == 0
        assert server.process.poll() is None
    assert main(["restore", str(tmp_path / "b.zip"), f"--data-dir={tmp_path / 'new'}"]) == 0
    assert holds_what_was_backed_up(tmp_path / "new", source)


def test_a_directory_that_is_held_and_has_no_server_yet_is_told_so(source: Path, tmp_path: Path, capsys) -> None:
    with hold(source):
        assert main(["backup", str(tmp_path / "b.zip"), f"--data-dir={source}"]) == 1
    assert "is in use by process" in (error := capsys.readouterr().err)
    assert "try again in a moment" in error
    assert list(tmp_path.iterdir()) == []


def test_standard_output_takes_a_backup(source: Path, made: Path, tmp_path: Path) -> None:
    file = tmp_path / "piped.zip"
    with file.open("wb") as output, command("backup", "-", "--data-dir", source, stdout=output) as process:
        assert process.wait() == 0
    assert file.stat().st_size == pytest.approx(made.stat().st_size, abs=4096)
    assert main(["restore", str(file), f"--data-dir={tmp_path / 'new'}"]) == 0
    assert holds_what_was_backed_up(tmp_path / "new", source)


def test_a_terminal_shows_how_far_it_is(source: Path, tmp_path: Path) -> None:
    terminal, its_end = pty.openpty()
    arguments = ["backup", tmp_path / "b.zip", "--data-dir", source]
    with subprocess.Popen([sys.executable, "-m", "app.cli", *map(str, arguments)], stderr=its_end) as process:
        os.close(its_end)
        shown = b""
        with suppress(OSError):  # Linux says so when nobody has the other end any more
            while data := os.read(terminal, 4096):
                shown += data
    os.close(terminal)
    assert process.returncode == 0
    assert re.search(rb"backup \[[#.]{30}\] +\d+%  .* of 32 MiB  .*/s  \d+ s left", shown)
    assert shown.rpartition(b"\x1b[K")[2].startswith(b"Backed up 32 MiB as of ")


def test_a_file_that_is_there_is_overwritten_with_force_only(source: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "b.zip"
    file.write_text("precious")
    assert main(["backup", str(file), f"--data-dir={source}"]) == 1
    assert "is there already: give another name, or overwrite it with --force" in capsys.readouterr().err
    assert file.read_text() == "precious"
    assert main(["backup", str(file), "--force", f"--data-dir={source}"]) == 0
    assert file.read_bytes().startswith(b"PK")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("file", ["nowhere/b.zip", "."])
def test_a_place_where_no_file_can_be_is_named(source: Path, tmp_path: Path, file: str, capsys) -> None:
    assert main(["backup", str(tmp_path / file), f"--data-dir={source}"]) == 1
    assert str(tmp_path / file) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_a_database_is_not_made(tmp_path: Path, capsys) -> None:
    assert main(["backup", str(tmp_path / "b.zip"), f"--data-dir={tmp_path / 'none'}"]) == 1
    assert f"{tmp_path / 'none'} holds no database: name another with --data-dir" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_data_is_refused_and_stays_as_it_is(made: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "thesis.tex").write_text("x")
    assert main(["restore", str(made), f"--data-dir={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert "is not empty (it holds postgres, thesis.tex)" in error
    assert "name another with --data-dir, or stop what runs on this one and move it away" in error
    assert {path.name for path in tmp_path.iterdir()} == {"postgres", "thesis.tex"}


def test_a_directory_in_use_is_refused(made: Path, tmp_path: Path, capsys) -> None:
    with hold(tmp_path):
        assert main(["restore", str(made), f"--data-dir={tmp_path}"]) == 1
        assert f"is in use by process {os.getpid()}: stop it, or give another" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "tailor.lock"}


@pytest.mark.parametrize(("damage", "place"), [("altered", "new"), ("altered", "empty"), ("cut off", "new")])
def test_a_damaged_backup_leaves_nothing_behind(made: Path, tmp_path: Path, place: str, damage: str, capsys) -> None:
    file, target = tmp_path / "b.zip", tmp_path / "target"
    content = bytearray(made.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content if damage == "altered" else content[:-100])
    if place == "empty":
        target.mkdir()
    assert main(["restore", str(file), f"--data-dir={target}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"tailor: {file} is not a whole backup of Tailor (")
    assert error.count("\n") == 1
    if place == "new":
        assert not target.exists()
    else:
        assert [path.name for path in target.rglob("*") if path.is_file()] == ["tailor.lock"]
        assert main(["restore", str(made), f"--data-dir={target}"]) == 0
    assert processes_on(target / "restoring" / "data") == []


def test_leavings_of_a_restore_that_was_killed_are_no_hindrance(source: Path, made: Path, tmp_path: Path) -> None:
    with command("restore", made, "--data-dir", tmp_path) as process:
        wait((tmp_path / "restoring" / "data" / "postmaster.pid").exists)
        process.kill()
    assert not (tmp_path / "postgres").exists()
    assert main(["restore", str(made), f"--data-dir={tmp_path}"]) == 0
    assert holds_what_was_backed_up(tmp_path, source)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_restore_that_is_interrupted_leaves_nothing_behind(made: Path, tmp_path: Path, number: int) -> None:
    target = tmp_path / "new"
    with command("restore", made, "--data-dir", target) as process:
        wait((target / "restoring" / "data" / "postmaster.pid").exists)
        process.send_signal(number)
        assert process.wait() == 130
    assert list(tmp_path.iterdir()) == []
    assert processes_on(target / "restoring" / "data") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_interrupted_leaves_nothing_behind(source: Path, tmp_path: Path, number: int) -> None:
    with hold(source), database(source) as (_, sessions, _), sessions() as session:
        session.connection().exec_driver_sql("LOCK TABLE blobs IN ACCESS EXCLUSIVE MODE")
        with command("backup", tmp_path / "b.zip", "--data-dir", source) as process:
            wait((tmp_path / "b.zip.unfinished").exists)
            process.send_signal(number)
            assert process.wait() == 130
    assert list(tmp_path.iterdir()) == []


def limit_files_to(limit: int) -> Callable[[], None]:
    """A file may not grow further: what the kernel says then comes from the same place as a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_a_disk_that_is_full_leaves_no_half_backup(source: Path, tmp_path: Path) -> None:
    with (
        hold(source),
        database(source),
        command(
            "backup", tmp_path / "b.zip", "--data-dir", source, preexec_fn=limit_files_to(BLOB_BYTES // 2)
        ) as process,
    ):
        assert process.wait() == 1
        assert process.stderr.read().startswith("tailor: The backup failed and left nothing behind: File too large")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_no_half_data_directory(made: Path, tmp_path: Path) -> None:
    with command(
        "restore", made, "--data-dir", tmp_path / "new", preexec_fn=limit_files_to(BLOB_BYTES // 2)
    ) as process:
        assert process.wait() == 1
        error = process.stderr.read()
    assert error.startswith("tailor: The restore failed and left nothing behind: ")
    assert "File too large" in error
    assert list(tmp_path.iterdir()) == []


def test_two_backups_to_one_name_do_not_mix(source: Path, tmp_path: Path, capsys) -> None:
    with hold(source), database(source) as (_, sessions, _), sessions() as session:
        session.connection().exec_driver_sql("LOCK TABLE blobs IN ACCESS EXCLUSIVE MODE")
        with command("backup", tmp_path / "b.zip", "--data-dir", source) as first:
            wait((tmp_path / "b.zip.unfinished").exists)
            assert main(["backup", str(tmp_path / "b.zip"), f"--data-dir={source}"]) == 1
            assert "Another backup is writing" in capsys.readouterr().err
            session.rollback()
            assert first.wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]


def test_a_path_too_long_for_a_socket_leaves_no_folder_elsewhere(
    source: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / ("long-" * 20)
    with tempfile.TemporaryDirectory(prefix="t-") as elsewhere:
        Path(elsewhere).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", elsewhere)
        assert main(["restore", str(made), f"--data-dir={target}"]) == 0
        monkeypatch.undo()
        assert list(Path(elsewhere).iterdir()) == []
    assert (target / "api_key").read_text() == (source / "api_key").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_under_root_the_files_belong_to_the_servers_user_and_folders_above_stay_closed(
    made: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    assert main(["restore", str(made), f"--data-dir={closed / 'data'}"]) == 0
    data = closed / "data" / "postgres" / "data"
    owners = {path.stat().st_uid for path in (data, *data.rglob("*"))}
    assert 0 not in owners
    assert len(owners) == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    with database(closed / "data") as (server, _, _):
        assert psutil.Process(server.process.pid).uids().real in owners
