"""Servers of a test's own: killed, frozen and brought back at will, and what they had stored is still there."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from app.db import migrate
from app.embedded import start_postgres, start_redis
from app.embedded.postgres import processes_on
from app.embedded.redis import launch_redis, wait_until_ready


class Postgres:
    """A migrated database."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = start_postgres(directory)
        self.url = self._server.url
        migrate(self.url)

    def kill(self) -> None:
        """All its processes: those of connections would notice the end of the first one only when they next wait."""
        processes = self._processes()
        for process in processes:
            process.kill()
        self._server.process.wait()
        psutil.wait_procs(processes)

    def start(self) -> None:
        self._server = start_postgres(self._directory)

    def freeze(self) -> None:
        """It goes on existing, keeps its connections, and answers nothing."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        return processes_on((self._directory / "data").resolve())

    def stop(self) -> None:
        if self._server.process.poll() is None:
            self.thaw()
            self._server.stop()


class Redis:
    """A broker."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = start_redis(directory, durable=False)
        self.url = self._server.url

    def kill(self) -> None:
        os.kill(self._server.process.pid, signal.SIGKILL)
        self._server.process.wait()

    def start(self) -> None:
        self._server = launch_redis(self._directory, self.url, durable=False)
        wait_until_ready(self._server, timeout_s=60)

    def stop(self) -> None:
        if self._server.process.poll() is None:
            self._server.stop()


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A database until the end of the block."""
    with TemporaryDirectory(prefix="tailor-faults-") as folder:
        server = Postgres(Path(folder) / "postgres")
        try:
            yield server
        finally:
            server.stop()
