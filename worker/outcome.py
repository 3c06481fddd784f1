"""How an attempt ended, decided from the child's last words and its exit code."""

from dataclasses import dataclass
from typing import Any

from worker import protocol
from worker.protocol import EXIT_DONE, EXIT_STOPPED


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
    exit_code: int, result: protocol.Result | None, failure: protocol.Failure | None, stderr_tail: str
) -> Outcome:
    """A success needs both a result and exit code 0; a failure without a reason gets the child's last lines."""
    if exit_code == EXIT_DONE and result is not None:
        return Succeeded(result)
    if exit_code == EXIT_STOPPED:
        return Stopped()
    if failure is not None:
        return Failed(_with_data(failure, {"stderr": stderr_tail} if failure.kind != "user_error" else {}))
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    last_line = stderr_tail.rpartition("\n")[2]
    message = f"The process {how} without giving a reason. Its last line was: {last_line or '(nothing)'}"
    return Failed(protocol.Failure("system_error", "child_crashed", message, data={"stderr": stderr_tail}))


def _with_data(failure: protocol.Failure, more: dict[str, Any]) -> protocol.Failure:
    return protocol.Failure(failure.kind, failure.code, failure.message, failure.param, failure.data | more)
