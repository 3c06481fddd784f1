"""Keeps the processes of `tailor up` running: restarts those that die, stops them in order, leaves none behind."""

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.embedded.console import Console
from app.embedded.interrupts import Interrupts
from app.embedded.server import StartError, described, failure, rotate

PR_SET_CHILD_SUBREAPER = 36
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# Whoever lived this many times as long as its first start took did not die of starting, and is started again at once.
STABLE_AFTER_STARTS = 2.0
STABLE_AFTER_S = 1.0  # at least
DEATHS_AT_START = 3
HURRIED_GRACE_S = 1.0
ORPHAN_GENERATIONS = 10


@dataclass(frozen=True)
class Program:
    """How a process is started and stopped. `launch` returns at once; `grace_s` lies between asking and killing."""

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    log: Path
    log_start: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 15.0


@dataclass
class Child:
    """A program and its current process; none while it waits for its next start. It died `deaths` times of starting."""

    program: Program
    process: subprocess.Popen[bytes] | None
    started_at: float
    stable_after_s: float = math.inf
    deaths: int = 0
    start_at: float = 0.0


def adopt_orphans() -> None:
    """Makes this process the parent of all its descendants whose parent dies (Linux), so that none can get away."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Supervisor:
    """The children, in the order of their start."""

    def __init__(self, interrupts: Interrupts, console: Console) -> None:
        self._interrupts = interrupts
        self._console = console
        self._children: list[Child] = []
        self._not_ours = {process.pid for process in psutil.Process().children()}
        self._starting = True

    def start(self, program: Program) -> None:
        """Starts a program and keeps it running."""
        began = time.monotonic()
        self.keep(program, program.launch(), began)

    def keep(self, program: Program, process: subprocess.Popen[bytes], began: float) -> None:
        """Keeps a program running whose first process was started already, at `began` (`time.monotonic`)."""
        self._children.append(Child(program, process, began))

    def is_ready(self, name: str) -> None:
        """Says of a program that its first start is over."""
        [child] = [child for child in self._children if child.program.name == name]
        start_s = time.monotonic() - child.started_at
        child.stable_after_s = max(STABLE_AFTER_S, STABLE_AFTER_STARTS * start_s)

    def everything_is_ready(self) -> None:
        """From here on a program that keeps dying is restarted for ever; until here that ends the start."""
        self._starting = False

    def step(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for something to happen, then sees to the dead. Raises StartError while starting."""
        now = time.monotonic()
        due = [child.start_at - now for child in self._children if child.process is None]
        self._interrupts.wait(min([timeout_s, *due]))
        for child in self._children:
            rotate(child.program.log)
            if child.process is None:
                if time.monotonic() >= child.start_at:
                    self._restart(child)
            elif (exit_code := child.process.poll()) is not None:
                self._bury(child, exit_code)

    def _bury(self, child: Child, exit_code: int) -> None:
        program = child.program
        self._end_group(child)
        self._end_orphans()
        if time.monotonic() - child.started_at > child.stable_after_s:
            child.deaths = 0
        child.deaths += 1
        if self._starting and child.deaths >= DEATHS_AT_START:
            raise failure(program.name, program.log, program.log_start, exit_code)
        self._schedule(child, f"ended ({described(exit_code)})")

    def _restart(self, child: Child) -> None:
        try:
            child.process = child.program.launch()
            child.started_at = time.monotonic()
            self._console.line(child.program.name, "started again")
        except (StartError, OSError) as error:
            child.deaths += 1
            self._schedule(child, f"cannot start: {error}")

    def _schedule(self, child: Child, what: str) -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** (child.deaths - 1), LONGEST_PAUSE_S)
        child.process = None
        child.start_at = time.monotonic() + pause_s
        self._console.line(child.program.name, f"{what}; starting it again in {pause_s:g} s   log {child.program.log}")

    def stop(self) -> bool:
        """Stops all, the last started first. Says whether every one ended by itself within its time."""
        self._interrupts.disarm()
        orderly = [self._stop(child) for child in reversed(self._children)]
        self._children.clear()
        self._end_orphans()
        return all(orderly)

    def _stop(self, child: Child) -> bool:
        process, name = child.process, child.program.name
        if process is None or process.poll() is not None:
            return True
        began = time.monotonic()
        process.send_signal(child.program.stop_signal)
        deadline = began + child.program.grace_s
        while process.poll() is None and time.monotonic() < deadline:
            if self._interrupts.count > 1:
                deadline = min(deadline, time.monotonic() + HURRIED_GRACE_S)
            self._console.passing(f"{name:<9} stopping {time.monotonic() - began:.0f} s")
            self._interrupts.wait(min(1.0, deadline - time.monotonic()))
        orderly = process.poll() is not None
        if not orderly:
            process.kill()
            process.wait()
        self._end_group(child)
        self._console.line(name, f"{'stopped' if orderly else 'killed'} after {time.monotonic() - began:.1f} s")
        return orderly

    def _end_group(self, child: Child) -> None:
        """Ends what a dead child left behind in its process group."""
        if child.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)

    def _end_orphans(self) -> None:
        """Ends descendants that came to us because their parent, one of the children, died."""
        known = self._not_ours | {child.process.pid for child in self._children if child.process is not None}
        for _generation in range(ORPHAN_GENERATIONS):  # the end of one makes orphans of its own children
            orphans = [process for process in psutil.Process().children() if process.pid not in known]
            for process in orphans:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(orphans, timeout=5)
            if not orphans:
                return
