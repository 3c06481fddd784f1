"""A server that runs as our child process, and how it is started and stopped."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
MAX_LOG_BYTES = 10 * 1024 * 1024
TAIL_LINES = 12


class StartError(Exception):
    """Something cannot start; the message says what and what to do about it."""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL or Redis. Its own lines begin at byte `log_start` of `log`; the user should read `notes`."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    stop_signal: signal.Signals = signal.SIGTERM
    notes: tuple[str, ...] = ()

    def stop(self, timeout_s: float = 30) -> None:
        """Asks for an orderly shutdown and kills what is still there after `timeout_s`."""
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def spawn(
    command: list[str],
    log: Path,
    *,
    death_signal: signal.Signals = signal.SIGKILL,
    environment: Mapping[str, str] | None = None,
    user: str = "",
    stdin: bytes = b"",
    directory: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, so that a terminal's Ctrl-C passes it by, with its output in `log`.

    It gets `death_signal` when the calling thread ends: call from the main thread.
    """
    leash = [sys.executable, "-I", "-S", str(LEASH), str(int(death_signal)), str(os.getpid()), user]
    with log.open("ab") as output:
        process = subprocess.Popen(
            leash + command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it died already; the caller finds out
            process.stdin.write(stdin)
            process.stdin.flush()
        with suppress(BrokenPipeError):
            process.stdin.close()
    return process


def rotate(log: Path) -> int:
    """Copies a log that has grown large to `<name>.1` and empties it; the byte at which the next line goes.

    Its writer may go on meanwhile: it appends. Makes the log's folder.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    size = log.stat().st_size if log.exists() else 0
    if size <= MAX_LOG_BYTES:
        return size
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)
    return 0


def tail(log: Path, start: int) -> str:
    """The last lines of a log, none from before byte `start`."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start if start <= size else 0, size - 64 * 1024))  # it may have been emptied since
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def package_folder(name: str) -> Path | None:
    """Where a package is installed. It is not imported: those that carry servers do things on import."""
    package = importlib.util.find_spec(name)
    folders = (package.submodule_search_locations or []) if package is not None else []
    return next((Path(folder) for folder in folders), None)


def failure(name: str, log: Path, log_start: int, exit_code: int | None) -> StartError:
    """Why a program did not start: its last lines, and what to do where they are known."""
    last_lines = tail(log, log_start)
    how = "is still not ready" if exit_code is None else f"ended ({described(exit_code)}) while starting"
    advice = next((advice for symptom, advice in ADVICE.items() if symptom in last_lines), f"The whole log: {log}")
    return StartError(f"{name} {how}. {advice}" + (f"\nIts last lines:\n{last_lines}" if last_lines else ""))


def described(exit_code: int) -> str:
    """An exit code in words."""
    return f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"


ADVICE = {
    "No space left on device": "The disk is full: free some space, or give another --data-dir.",
    "Disk quota exceeded": "Your disk quota is used up: free some space, or give another --data-dir.",
    "Read-only file system": "The file system is read-only: give another --data-dir.",
    "Permission denied": "A file cannot be opened: let the data directory belong to the user who runs Tailor, "
    "or give another --data-dir.",
    "error while loading shared libraries": "A shared library is missing: install the package that has it, or run a "
    "server of your own and set TAILOR_DATABASE_URL or TAILOR_REDIS_URL.",
    "could not create shared memory segment": "The kernel refuses the shared memory: raise its limits (kernel.shmmax, "
    "kernel.shmall), or set TAILOR_DATABASE_URL to a server of your own.",
    "Cannot allocate memory": "Not enough memory is free.",
}
