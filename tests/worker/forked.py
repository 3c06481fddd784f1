"""Children forked from a process that has torch loaded already: a fresh process each, without seconds of imports each.

From its first line on standard input to its end such a child is `worker.child`, as ever.
"""

import multiprocessing
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import IO

import pytest

from app.catalog.methods import METHODS
from app.catalog.tasks import TASKS
from worker.child import ENVIRONMENT
from worker.process import Child, Standby

PRELOADED = [
    "worker.child",
    "worker.training.warmup",
    *(spec.impl.partition(":")[0] for spec in (*TASKS.values(), *METHODS.values())),
    "transformers.models.bert.modeling_bert",
]


def _be_a_child(commands: Connection, events: Connection, complaints: Connection, grouped: Connection) -> None:
    os.setsid()
    for number, connection in enumerate((commands, events, complaints)):
        os.dup2(connection.fileno(), number)
        connection.close()
    grouped.close()
    from worker.child import main

    main()


class _Process:
    """As much of `subprocess.Popen` as a Child uses, of a process that another one forked."""

    def __init__(self, stderr: IO[bytes]) -> None:
        context = multiprocessing.get_context("forkserver")
        complaints = Connection(os.dup(stderr.fileno()))
        has_group, grouped = context.Pipe(duplex=False)
        its_commands, our_commands = context.Pipe(duplex=False)
        our_events, its_events = context.Pipe(duplex=False)
        its = (its_commands, its_events, complaints, grouped)
        self._process = context.Process(target=_be_a_child, args=its, daemon=True)
        self._process.start()
        for connection in its:
            connection.close()
        has_group.poll(None)  # it closes its end once it has a group of its own, by which it may be killed from then on
        has_group.close()
        self.stdin: IO[bytes] = os.fdopen(os.dup(our_commands.fileno()), "wb")
        self.stdout: IO[bytes] = os.fdopen(os.dup(our_events.fileno()), "rb")
        our_commands.close()
        our_events.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


class ForkedChild(Child):
    """A Child of another making."""

    def __init__(self) -> None:
        self.killed = False
        self.stderr_tail = ""
        self.events = queue.SimpleQueue()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 closed by wait()
        self._process = _Process(self._stderr)
        threading.Thread(target=self._read, daemon=True).start()


class Forking(Standby):
    """Has no child waiting: one is there at once."""

    def __init__(self) -> None:
        self._taken: list[ForkedChild] = []

    @property
    def pids(self) -> list[int]:
        """Of the children that live."""
        return [child.pid for child in self._taken if child.is_alive()]

    @property
    def waiting_pid(self) -> int | None:
        return None

    def take(self) -> Child:
        child = ForkedChild()
        self._taken.append(child)
        return child

    def refill(self) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def forking() -> Iterator[Forking]:
    """The process to fork from, until the end of the block."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in ENVIRONMENT.items():  # torch and its threads read theirs where they are loaded
            environment.setenv(name, value)
        forkserver.ensure_running()
    try:
        yield Forking()
    finally:
        server = forkserver._forkserver
        if server._forkserver_pid is not None:  # the folders' fixtures share one, where tests of both run
            os.kill(server._forkserver_pid, signal.SIGKILL)  # its end in order takes it seconds
            server._stop()
