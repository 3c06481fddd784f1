"""Whether the kernel has killed for want of memory: a killed process cannot say so itself."""

from pathlib import Path

VMSTAT = Path("/proc/vmstat")
CGROUP_OF_THIS_PROCESS = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(
    vmstat: Path = VMSTAT, cgroup_of_this_process: Path = CGROUP_OF_THIS_PROCESS, cgroups: Path = CGROUPS
) -> int:
    """Processes that the kernel has killed so far, on this machine and in our control group; 0 where it does not count.

    Only a rise says something: it means that one was killed in between.
    """
    return _count(vmstat) + sum(_count(path) for path in _cgroup_files(cgroup_of_this_process, cgroups))


def _cgroup_files(listing: Path, cgroups: Path) -> list[Path]:
    """Version 2 (`0::/path`) counts in `memory.events`, version 1 (`4:memory:/path`) in `memory.oom_control`."""
    try:
        lines = [line.split(":", 2) for line in listing.read_text().splitlines()]
    except OSError:
        return []
    found = [cgroups / path.lstrip("/") / "memory.events" for number, _, path in lines if number == "0"]
    found += [
        cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
        for _, controllers, path in lines
        if "memory" in controllers.split(",")
    ]
    return found


def _count(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(value) for name, _, value in (line.partition(" ") for line in lines) if name == "oom_kill")
