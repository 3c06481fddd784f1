"""Why a run cannot go on: the two exceptions of the engine, and how any exception becomes a typed `Failure` event."""

import errno
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.datasets.errors import DataError
from worker.protocol import Failure


@dataclass(eq=False)
class UserError(Exception):
    """The job's data, parameters or base model cannot be used as they are; a retry would fail in the same way."""

    code: str
    message: str
    param: str | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


class StoppedError(Exception):
    """The supervisor said `stop`; the run has left a checkpoint and gives the device back."""


OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator: can't allocate", "DefaultCPUAllocator: not enough memory")
DISK_FULL = ("No space left on device", "Disk quota exceeded")


def failure_of(error: BaseException) -> Failure:
    """The event for an exception that ended the child. Libraries wrap system errors, so their texts count too."""
    if isinstance(error, UserError | DataError):
        return Failure("user_error", error.code, error.message, error.param, error.data)
    text = str(error)
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        return Failure("resource_error", "out_of_memory", f"Out of memory: {_last_line(error)}")
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or any(s in text for s in DISK_FULL):
        return Failure("resource_error", "disk_full", f"No space left for the run directory: {_last_line(error)}")
    return Failure("system_error", "internal_error", _last_line(error))


def run_directory_lost(directory: Path) -> Failure:
    """Somebody removed the run directory, or its disk is gone: whatever went wrong follows from that."""
    message = f"The run directory {directory.name} is gone from the worker's disk; something else removed it."
    return Failure("system_error", "run_directory_lost", message)


def _is_torch_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or any(s in str(error) for s in OUT_OF_MEMORY)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
