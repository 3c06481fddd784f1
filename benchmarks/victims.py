"""The processes of a `tailor up`, by what they do: found, watched, killed."""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import psutil
import psycopg

ROLES = ("child", "worker", "control", "api", "redis", "postgres")


def role_of(process: psutil.Process) -> str | None:
    """What a process does; None for those that only start others, and for PostgreSQL's own children."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return None
    program = command[0].rpartition("/")[2] if command else ""
    if "worker.child" in command:
        return "child"
    if "worker.main" in command:
        return "control" if "--control" in command else "worker"
    if "app.cli" in command and "serve" in command:
        return "api"
    if program in ("redis-server", "valkey-server"):
        return "redis"
    return "postgres" if program == "postgres" and "-D" in command else None


def alive(process: psutil.Process) -> bool:
    """Whether it has not ended; a process may end between any two questions about it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Kill:
    """A process that was killed, and after how many seconds another one did its work."""

    role: str
    at: float
    others: frozenset[psutil.Process]
    recovered_s: float | None = None


@dataclass
class Victims:
    """The processes below a `tailor up`, and what became of those that were killed."""

    root: psutil.Process
    url: str
    database_url: str
    kills: list[Kill] = field(default_factory=list[Kill])
    seen: set[psutil.Process] = field(default_factory=set[psutil.Process])

    def by_role(self) -> dict[str, list[psutil.Process]]:
        """Living processes by role."""
        processes = self.root.children(recursive=True)
        self.seen.update(processes)
        found: dict[str, list[psutil.Process]] = {role: [] for role in ROLES}
        for process in processes:
            role = role_of(process)
            if role is not None and alive(process):
                found[role].append(process)
        return found

    def kill(self, role: str, victim: psutil.Process, others: Mapping[str, list[psutil.Process]]) -> None:
        """Kill -9. The victim may have ended by itself just before; that kill then counts all the same."""
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
        self.kills.append(Kill(role, time.monotonic(), frozenset(others[role])))

    def look(self) -> dict[str, list[psutil.Process]]:
        """Note who is back; returns the living by role."""
        living = self.by_role()
        for kill in self.kills:
            if kill.recovered_s is None:
                new = [process for process in living[kill.role] if process not in kill.others]
                if new and self._works(kill.role, new[0]):
                    kill.recovered_s = time.monotonic() - kill.at
        return living

    def _works(self, role: str, process: psutil.Process) -> bool:
        try:
            match role:
                case "api":
                    return httpx.get(f"{self.url}/healthz", timeout=1).status_code == 200
                case "postgres":
                    psycopg.connect(self.database_url, connect_timeout=2).close()
                case "worker" | "control":
                    with psycopg.connect(self.database_url, connect_timeout=2) as connection:
                        row = connection.execute("SELECT 1 FROM workers WHERE pid = %s", (process.pid,)).fetchone()
                        return row is not None
                case _:
                    pass
        except (httpx.HTTPError, psycopg.Error):
            return False
        return True
