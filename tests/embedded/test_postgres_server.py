import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from app.embedded import Server, StartError, start_postgres
from app.embedded.account import Account, account_for, open_way_to
from app.embedded.postgres import find_programs, processes_on, running_url
from app.embedded.server import failure, package_folder, spawn


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A folder of which no server is left behind, whatever a test does."""
    yield tmp_path / "postgres"
    processes = processes_on(tmp_path / "postgres" / "data")
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that was set up once, for tests that damage nothing."""
    folder = tmp_path_factory.mktemp("shared") / "postgres"
    start_postgres(folder, durable=False).stop()
    return folder


def execute(server: Server, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_data_survive_a_restart(directory: Path) -> None:
    server = start_postgres(directory)
    execute(server, "CREATE TABLE kept AS SELECT 7 AS value")
    server.stop()
    server = start_postgres(directory)
    assert execute(server, "SELECT value FROM kept") == [(7,)]
    server.stop()
    assert server.process.returncode == 0
    assert processes_on(directory / "data") == []


def test_it_is_reached_through_a_private_socket_only(shared: Path) -> None:
    server = start_postgres(shared, durable=False)
    try:
        assert execute(server, "SHOW listen_addresses") == [("",)]
        assert server.url == f"postgresql://postgres@/postgres?host={shared}/data"
        assert stat.S_IMODE((shared / "data").stat().st_mode) == 0o700
        assert not psutil.Process(server.process.pid).net_connections("tcp")
    finally:
        server.stop()


def test_committed_rows_survive_kill_9(directory: Path) -> None:
    server = start_postgres(directory)
    execute(server, "CREATE TABLE kept AS SELECT 7 AS value")
    server.process.kill()
    server.process.wait()
    server = start_postgres(directory)
    assert execute(server, "SELECT value FROM kept") == [(7,)]
    server.stop()


def test_a_server_that_an_earlier_run_left_is_stopped_first(shared: Path) -> None:
    left = start_postgres(shared, durable=False)
    server = start_postgres(shared, durable=False)
    assert left.process.wait(10) == 0
    assert execute(server, "SELECT 1") == [(1,)]
    server.stop()


def test_a_pid_file_whose_number_now_belongs_to_another_program_does_not_hinder(shared: Path) -> None:
    server = start_postgres(shared, durable=False)
    pid_file = shared / "data" / "postmaster.pid"
    content = pid_file.read_text()
    server.stop()
    account = account_for(shared / "data")
    stranger = spawn(["/bin/sleep", "100"], shared / "sleep.log", user=account.name)
    try:
        pid_file.write_text(content.replace(str(server.process.pid), str(stranger.pid), 1))
        account.own(pid_file)
        server = start_postgres(shared, durable=False)
        assert execute(server, "SELECT 1") == [(1,)]
        server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_path_too_long_for_a_socket_gets_a_private_folder_elsewhere(tmp_path: Path) -> None:
    directory = tmp_path / ("long-" * 20) / "postgres"
    server = start_postgres(directory, durable=False)
    [[socket_folder]] = execute(server, "SHOW unix_socket_directories")
    folder = Path(str(socket_folder))
    try:
        assert not folder.is_relative_to(tmp_path)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert running_url(directory) == server.url
    finally:
        server.stop()
    start_postgres(directory, durable=False).stop()
    folder.chmod(0o755)
    try:
        with pytest.raises(StartError, match="not a private folder"):
            start_postgres(directory, durable=False)
    finally:
        folder.rmdir()


def test_its_url_is_known_while_it_runs_and_only_then(shared: Path) -> None:
    server = start_postgres(shared, durable=False)
    assert running_url(shared) == server.url
    server.stop()
    assert running_url(shared) is None


def test_an_interrupted_first_start_is_begun_anew(directory: Path) -> None:
    unfinished = directory / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    server = start_postgres(directory, durable=False)
    server.stop()
    assert not unfinished.exists()


def test_data_of_another_version_are_refused_with_both_versions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(StartError, match=r"written by PostgreSQL 16.* brings PostgreSQL 18.*--data-dir"):
        start_postgres(tmp_path)


def test_a_folder_with_other_things_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("x")
    with pytest.raises(StartError, match="not a PostgreSQL data directory"):
        start_postgres(tmp_path)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["thesis.tex"]


def test_a_server_that_ends_while_starting_is_quoted(directory: Path) -> None:
    start_postgres(directory, durable=False).stop()
    control = directory / "data" / "global" / "pg_control"
    os.truncate(control, 100)
    with pytest.raises(StartError, match=r"PostgreSQL ended \(signal SIGABRT\) while starting(.|\n)*pg_control"):
        start_postgres(directory, durable=False)


def test_the_last_lines_are_those_of_this_start_and_bring_advice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("FATAL: Permission denied\n")
    begin = log.stat().st_size
    with log.open("a") as file:
        file.write("PANIC: could not write: No space left on device\n")
    message = str(failure("PostgreSQL", log, begin, 1))
    assert "The disk is full: free some space" in message
    assert "Permission" not in message


def test_a_package_that_is_not_installed_is_not_found() -> None:
    assert package_folder("no_such_package_here") is None
    assert (find_programs() / "initdb").exists()


def test_a_program_started_here_gets_its_signal_when_its_starter_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from app.embedded.server import spawn\n"
        f"print(spawn(['/bin/sleep', '100'], Path({str(tmp_path / 'log')!r})).pid, flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        sleeper = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)
    psutil.wait_procs([sleeper], timeout=10)
    assert not sleeper.is_running()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_under_root_the_rights_of_the_folders_above_stay_as_they_are(tmp_path: Path) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    directory = closed / "tailor" / "postgres"
    server = start_postgres(directory, durable=False)
    assert execute(server, "SELECT 7") == [(7,)]
    assert psutil.Process(server.process.pid).uids().real != 0
    server.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert server.notes == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_root_opens_folders_for_passing_through_only_and_says_so(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    open_folder = closed / "open"
    open_folder.mkdir(mode=0o755)
    notes = open_way_to(open_folder / "data", Account("pgserver", 12345, 12345))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert stat.S_IMODE(open_folder.stat().st_mode) == 0o755
    assert any(str(closed) in note and "o+x" in note for note in notes)
    assert not any(str(open_folder) + " may" in note for note in notes)
