"""A data directory's database for a backup, and a new data directory made of one."""

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from app.backup.archive import ArchiveReader, BackupError
from app.embedded.directory import DataDirectory, InUseError, absolute, hold
from app.embedded.postgres import running_url, settle_previous, start_postgres
from app.embedded.server import Server, StartError

UNFINISHED = "restoring"
# What may lie in a directory that holds no data: leavings of a start or of a restore that did not get far.
NO_DATA = {UNFINISHED, "logs", "tailor.lock"}
STOP_TIMEOUT_S = 600


@contextmanager
def refusing() -> Generator[None]:
    """What cannot start makes a backup or a restore impossible."""
    try:
        yield
    except StartError as error:
        raise BackupError(str(error)) from error


@contextmanager
def database_of(path: Path) -> Generator[str]:
    """The URL of a data directory's database: that of the `tailor up` which runs, else one started for this time.

    Raises BackupError for a directory without a database, or where that cannot be reached.
    """
    directory = DataDirectory(absolute(path))
    if not (directory.postgres / "data").is_dir():
        raise BackupError(f"The data directory {directory.path} holds no database: name another with --data-dir.")
    with refusing(), ExitStack() as stack:
        try:
            stack.enter_context(hold(path))
        except InUseError as error:
            url = running_url(directory.postgres)
            if url is None:
                raise BackupError(f"{error} If it is just starting or stopping, try again in a moment.") from None
            yield url
            return
        server = start_postgres(directory.postgres, log=directory.log("postgres"))
        stack.callback(server.stop)
        yield server.url


def restore_into(path: Path, archive: ArchiveReader, fill: Callable[[str], None]) -> DataDirectory:
    """Make a data directory of a backup; `fill` fills the empty database whose URL it gets.

    It is built aside and appears once it is whole and on disk. Raises BackupError where data are already, and where
    the directory or a server cannot be had.
    """
    path = absolute(path)
    is_new = not path.exists()
    require_no_data(path)
    try:
        with refusing(), hold(path) as directory:
            require_no_data(path)
            log = directory.log("restore")
            try:
                build(directory, archive, fill, log)
            except BaseException:
                remove(path / UNFINISHED)
                log.unlink(missing_ok=True)
                raise
            return directory
    except BaseException:
        if is_new:
            remove(path)
        raise


def require_no_data(path: Path) -> None:
    """Raises BackupError for a directory with anything in it."""
    found = sorted(entry.name for entry in path.iterdir() if entry.name not in NO_DATA) if path.is_dir() else []
    if found:
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise BackupError(
            f"The data directory {path} is not empty (it holds {shown}), and a backup is restored into a new or an "
            "empty one: name another with --data-dir, or stop what runs on this one and move it away. Nothing was "
            "restored."
        )


def build(directory: DataDirectory, archive: ArchiveReader, fill: Callable[[str], None], log: Path) -> None:
    """Make the database and the key file aside, then move them to their places."""
    unfinished = directory.path / UNFINISHED
    settle_previous(unfinished / "data")  # of a restore that was killed, and whose server is about to end
    remove(unfinished)
    server = start_postgres(unfinished, durable=False, log=log)
    try:
        fill(server.url)
    finally:
        server.stop(STOP_TIMEOUT_S)
        remove_socket_folder(server, unfinished)
    if server.process.returncode != 0:
        raise StartError(f"PostgreSQL did not stop in good order after the restore: see {log}.")
    key = archive.read_api_key()
    if key is not None:
        with os.fdopen(os.open(unfinished / "api_key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
    sync(unfinished)
    unfinished.rename(directory.postgres)
    if key is not None:
        (directory.postgres / "api_key").rename(directory.api_key)
    sync(directory.path, below=False)


def remove_socket_folder(server: Server, unfinished: Path) -> None:
    """Where a path was too long for a socket, the server had a folder elsewhere, under a name that is used once."""
    folder = Path(parse_qs(urlsplit(server.url).query)["host"][0])
    if not folder.is_relative_to(unfinished.resolve()):
        folder.rmdir()


def sync(folder: Path, *, below: bool = True) -> None:
    """Wait until a folder, and everything below it, is on disk: the server that wrote it did not."""
    for parent, _, names in os.walk(folder) if below else [(folder, [], [])]:
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a folder of ours, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)
