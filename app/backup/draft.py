"""A file that is there whole or not at all."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.backup.archive import BackupError


class _BusyError(BackupError):
    """Another backup writes the file."""


@contextmanager
def draft(target: Path, *, overwrite: bool) -> Generator[BinaryIO]:
    """A new file, readable by its user only, that stands at `target` once the block has ended well.

    Until then it is `<target>.unfinished`, which goes when the block fails. Raises BackupError for a target that is
    there already, unless it is to be overwritten.
    """
    _require_free(target, overwrite)
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        with _open_locked(unfinished) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            _require_free(target, overwrite)
            unfinished.replace(target)
    except _BusyError:
        raise
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _require_free(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise BackupError(f"{target} is a folder: name a file in it.")
    if target.exists() and not overwrite:
        raise BackupError(f"{target} is there already: give another name, or overwrite it with --force.")


def _open_locked(path: Path) -> BinaryIO:
    """An empty file that no other backup writes: one that was killed may have left it."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(file.fileno(), 0o600)
        os.truncate(file.fileno(), 0)
    except BlockingIOError:
        file.close()
        raise _BusyError(f"Another backup is writing {path}: wait for it, or give another name.") from None
    except BaseException:
        file.close()
        raise
    return file
