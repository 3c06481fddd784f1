"""Directories that are in use as long as the process that made them lives, and the removal of those it left.

A file lock beside each directory tells: the kernel drops it with its process, however that ends. Process ids would not
do: workers in several containers may share a disk, and numbers come again.
"""

import fcntl
import os
import shutil
from pathlib import Path

SUFFIX = ".lock"


class HeldDirectory:
    """A directory of this process, to be made and removed. A lock beside it, `.<name>.lock`, is held in between."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def make(self) -> None:
        """Make it, or empty it. Raises OSError for a disk that cannot be used."""
        if self._lock is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(_lock_path(self.path), make=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()

    def remove(self) -> None:
        """Remove what is there. What cannot be removed now is left to `sweep`."""
        if self._lock is not None:
            _remove(self.path, self._lock)
            self._lock = None


def sweep(folder: Path) -> list[str]:
    """Remove the directories in `folder` whose process is gone; returns their names. Others' files are not touched."""
    removed: list[str] = []
    for lock_path in sorted(folder.glob(f".*{SUFFIX}")):
        lock = _lock(lock_path, make=False)
        if lock is not None:
            path = lock_path.with_name(lock_path.name.removeprefix(".").removesuffix(SUFFIX))
            _remove(path, lock)
            removed.append(path.name)
    return removed


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        _lock_path(path).unlink(missing_ok=True)
    os.close(lock)


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}{SUFFIX}")


def _lock(path: Path, *, make: bool) -> int | None:
    """The locked file, made or waited for where asked to; None if it is not there or another process holds it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0), 0o600)
        except FileNotFoundError:
            if make:
                raise
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if make else fcntl.LOCK_NB))
        except OSError:
            if make:  # a file system without locks, where `sweep` can lock nothing either and so leaves all alone
                return descriptor
            os.close(descriptor)
            return None
        # Whoever held it before us may have removed it: then we have locked a file that nobody else will find.
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
