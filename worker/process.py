"""Child processes of a worker: started in a group of their own, told by standard input, killed as a group."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

from worker.protocol import Event, Log, decode

STDERR_TAIL_BYTES = 4000
SECRETS = ("TAILOR_DATABASE_URL", "TAILOR_REDIS_URL")


class Child:
    """`python -m worker.child`. Its events arrive in `events`; None marks the end of its output.

    Standard input is its leash: when this process dies, the kernel closes the pipe and the child ends at once.
    """

    def __init__(self, *, preload: bool) -> None:
        self.killed = False
        self.stderr_tail = ""  # the last lines it wrote to standard error, once it was waited for
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        # Without a name, so that no death of ours can leave it behind; not on the run directory's disk, which may be
        # what the child has to complain of.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 closed by wait()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker.child", *(["--preload"] if preload else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name not in SECRETS},
        )
        threading.Thread(target=self._read, name=f"child-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self.events.put(decode(line.decode("utf-8", "replace")))
            except ValueError as error:
                self.events.put(Log(f"The trainer said something that is no event: {error}", "warn"))
        self.events.put(None)

    def start(self, plan: Path) -> None:
        """Give the child its plan."""
        self._say(str(plan))

    def stop(self) -> None:
        """Ask for a checkpoint and a clean exit."""
        self._say("stop")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code tells how
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def dump_stacks(self) -> None:
        """Have the process write to standard error where each of its threads is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """Kill the process and everything it started. `killed`: it still ran, so its end is our doing."""
        self.killed = self.killed or self.is_alive()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, negative for a signal. Whatever it left running in its group is killed."""
        code = self._process.wait()
        self.kill()
        if not self._stderr.closed:
            end = self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, end - STDERR_TAIL_BYTES))
            self.stderr_tail = self._stderr.read().decode("utf-8", "replace").strip()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        return code


class Standby:
    """At most one child that has torch loaded already, so that the next job starts in well under a second."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._waiting: Child | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def waiting_pid(self) -> int | None:
        """Process id of the child that waits for a job."""
        return self._waiting.pid if self._waiting is not None else None

    def refill(self) -> None:
        """Start one if none waits."""
        with self._lock:
            if self._enabled and not self._closed and (self._waiting is None or not self._waiting.is_alive()):
                self._waiting = Child(preload=True)

    def take(self) -> Child:
        """The waiting child, or a new one."""
        with self._lock:
            child, self._waiting = self._waiting, None
            return child if child is not None and child.is_alive() else Child(preload=True)

    def close(self) -> None:
        """End the waiting child."""
        with self._lock:
            self._closed = True
            if self._waiting is not None:
                self._waiting.kill()
                self._waiting.wait()
