"""How an attempt ended, decided from the child's last words, its exit code, and why it was asked to stop."""

import errno
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from worker import protocol
from worker.protocol import EXIT_DONE, EXIT_STOPPED
from worker.stops import Stop


@dataclass(frozen=True)
class Succeeded:
    """The child is done."""

    result: protocol.Result


@dataclass(frozen=True)
class Stopped:
    """The child stopped as asked, after a checkpoint."""


@dataclass(frozen=True)
class Failed:
    """The child could not go on."""

    failure: protocol.Failure


Outcome = Succeeded | Stopped | Failed


def judge(
    exit_code: int,
    result: protocol.Result | None,
    failure: protocol.Failure | None,
    stderr_tail: str,
    stop: Stop | None = None,
    *,
    out_of_memory: bool = False,
) -> Outcome:
    """A success needs both a result and exit code 0; a failure without a reason gets the child's last lines.

    `out_of_memory`: the kernel killed for want of memory while the child ran, and we did not.
    """
    if exit_code == EXIT_DONE and result is not None:
        return Succeeded(result)
    if stop is not None and stop.failure is not None:
        return Failed(_with_stderr(stop.failure, stderr_tail))
    if exit_code == EXIT_STOPPED:
        return Stopped()
    if failure is not None:
        return Failed(_with_stderr(failure, stderr_tail))
    if exit_code == -signal.SIGKILL and out_of_memory:
        message = "Out of memory: the kernel killed the job's process because the machine had no memory left."
        return Failed(protocol.Failure("resource_error", "out_of_memory", message))
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    last_line = stderr_tail.rpartition("\n")[2]
    message = f"The process {how} without giving a reason. Its last line was: {last_line or '(nothing)'}"
    return Failed(protocol.Failure("system_error", "child_crashed", message, data={"stderr": stderr_tail}))


def failed_on_disk(error: OSError, run_dir: Path) -> Failed:
    """The outcome of an attempt whose run directory cannot be read or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"No space left for the run directory: {error}"
        return Failed(protocol.Failure("resource_error", "disk_full", message))
    if not run_dir.exists():
        message = f"The run directory {run_dir.name} is gone from the worker's disk; something else removed it."
        return Failed(protocol.Failure("system_error", "run_directory_lost", message))
    return Failed(protocol.Failure("system_error", "run_directory_unusable", f"The run directory failed: {error}"))


def _with_stderr(failure: protocol.Failure, stderr_tail: str) -> protocol.Failure:
    if failure.kind == "user_error":
        return failure
    return replace(failure, data=failure.data | {"stderr": stderr_tail})
