"""Memory and time bounds of the process that parses untrusted bytes."""

import os
import resource
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from app.catalog.plan import PreparationLimits
from app.datasets.errors import DataError

PAGE_BYTES = resource.getpagesize()
# The clock is looked at between blocks and batches; the kernel's bound ends a loop that never comes back from C.
CPU_GRACE_S = 30
THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Deadline:
    """When preparation has to be over, on the monotonic clock."""

    at: float
    timeout_s: float

    @classmethod
    def after(cls, timeout_s: float) -> "Deadline":
        """A deadline `timeout_s` from now."""
        return cls(time.monotonic() + timeout_s, timeout_s)

    def check(self) -> None:
        """Raise DataError `preparation_timeout` once the time is over."""
        if time.monotonic() > self.at:
            raise DataError(
                "preparation_timeout",
                f"The file could not be prepared within {self.timeout_s:g} s, the limit TAILOR_PREPARATION_TIMEOUT_S. "
                "Fix: make the file smaller, or raise the setting.",
            )


@contextmanager
def apply_limits(limits: PreparationLimits) -> Generator[Deadline]:
    """Bound this process's memory and CPU time, and give the old bounds back at the end.

    Memory is RLIMIT_DATA, private writable memory, `memory_bytes` above what the process has now. RLIMIT_AS would
    count reservations as well: measured with pyarrow 26 on Linux, 325 MiB of address space stand against 118 MiB of
    data after the import, and each thread of a pool adds 64 MiB that malloc reserves and does not use.
    """
    used_cpu_s = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    bounds = {
        resource.RLIMIT_DATA: data_bytes() + limits.memory_bytes,
        resource.RLIMIT_CPU: int(used_cpu_s + limits.timeout_s * THREADS) + CPU_GRACE_S,
    }
    threads = pa.cpu_count()
    # A stack of 8 MiB for each core of a large machine would use up the bound; one core is what a file gets.
    pa.set_cpu_count(1)
    before = {which: resource.getrlimit(which) for which in bounds}
    for which, soft in bounds.items():
        hard = before[which][1]
        resource.setrlimit(which, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    try:
        yield Deadline.after(limits.timeout_s)
    finally:
        for which, pair in before.items():
            resource.setrlimit(which, pair)
        pa.set_cpu_count(threads)


def data_bytes() -> int:
    """Private writable memory of this process in bytes (Linux; elsewhere 0)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * PAGE_BYTES
    except OSError:
        return 0


def memory_error(limits: PreparationLimits) -> DataError:
    """What the user hears when parsing ran out of memory."""
    return DataError(
        "file_too_large_to_parse",
        f"Reading the file needs more than {limits.memory_bytes:,} bytes of memory, the limit "
        "TAILOR_PREPARATION_MEMORY_BYTES. Fix: split the file or write it with smaller rows and row groups, "
        "or raise the setting.",
    )
