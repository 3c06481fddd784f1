"""The data directory of `tailor up`: one process uses it at a time."""

import errno
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.server import StartError

ANOTHER = "give another with --data-dir or TAILOR_DATA_DIR"


class InUseError(StartError):
    """Another process holds the data directory."""


@dataclass(frozen=True)
class DataDirectory:
    """Where everything of one installation lies."""

    path: Path

    @property
    def postgres(self) -> Path:
        """PostgreSQL's folder."""
        return self.path / "postgres"

    @property
    def redis(self) -> Path:
        """Redis's folder."""
        return self.path / "redis"

    @property
    def api_key(self) -> Path:
        """The file with the key of the project `default`."""
        return self.path / "api_key"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.path / "logs" / f"{name}.log"


def absolute(path: Path) -> Path:
    """The whole path, `~` expanded and no link resolved."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 `resolve` resolves links


@contextmanager
def hold(path: Path) -> Generator[DataDirectory]:
    """Makes the directory where it is missing and holds it until the end. Raises StartError."""
    path = absolute(path)
    lock_path = path / "tailor.lock"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / "logs").mkdir(mode=0o700, exist_ok=True)
        lock = lock_path.open("a+")
    except (FileExistsError, NotADirectoryError):
        raise StartError(f"The data directory {path} cannot be made: a file is in its way; {ANOTHER}.") from None
    except OSError as error:
        raise StartError(
            f"The data directory {path} cannot be used ({error.strerror}): {REASONS.get(error.errno or 0, ANOTHER)}."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InUseError(
                f"The data directory {path} is in use by process {lock.read().strip() or 'unknown'}: stop it, or "
                f"{ANOTHER}."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield DataDirectory(path)


REASONS = {
    errno.EACCES: f"let it belong to the user who runs Tailor, or {ANOTHER}",
    errno.EPERM: f"let it belong to the user who runs Tailor, or {ANOTHER}",
    errno.ENOSPC: f"the disk is full; free some space, or {ANOTHER}",
    errno.ENAMETOOLONG: f"its name is too long; {ANOTHER}",
}
