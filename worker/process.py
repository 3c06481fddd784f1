"""Child processes of a worker: started in a group of their own, told by standard input, killed as a group."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

from worker.protocol import Event, Log, decode

STDERR_TAIL_BYTES = 4000
SECRETS = ("TAILOR_DATABASE_URL", "TAILOR_REDIS_URL")


class Child:
    """`python -m worker.child`. Its events arrive in `events`; None marks the end of its output.

    Standard input is its leash: when this process dies, the kernel closes the pipe and the child ends at once.
    """

    def __init__(self, stderr: Path, *, preload: bool) -> None:
        stderr.parent.mkdir(parents=True, exist_ok=True)
        self.stderr = stderr
        self.killed = False
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        command = [sys.executable, "-m", "worker.child", *(["--preload"] if preload else [])]
        with stderr.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
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
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        return code

    def stderr_tail(self) -> str:
        """The last lines it wrote to standard error."""
        with self.stderr.open("rb") as file:
            file.seek(max(0, self.stderr.stat().st_size - STDERR_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()


class Standby:
    """At most one child that has torch loaded already, so that the next job starts in well under a second."""

    def __init__(self, logs: Path, *, enabled: bool) -> None:
        self._logs = logs
        self._enabled = enabled
        self._waiting: Child | None = None
        self._count = 0
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
                self._waiting = self._spawn()

    def take(self) -> Child:
        """The waiting child, or a new one."""
        with self._lock:
            child, self._waiting = self._waiting, None
            return child if child is not None and child.is_alive() else self._spawn()

    def close(self) -> None:
        """End the waiting child."""
        with self._lock:
            self._closed = True
            if self._waiting is not None:
                self._waiting.kill()
                self._waiting.wait()
                self._waiting.stderr.unlink(missing_ok=True)

    def _spawn(self) -> Child:
        self._count += 1
        return Child(self._logs / f"child-{os.getpid()}-{self._count}.log", preload=True)
