"""What `tailor up` prints: one line a process; on a terminal also, passing, what it waits for."""

import sys
from contextlib import suppress
from pathlib import Path

NAME_WIDTH = 9
CLEAR_LINE = "\r\x1b[K"


class Console:
    """Lines on standard output. A terminal that went away stops nothing."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()

    def line(self, name: str, text: str) -> None:
        """A process and its state."""
        self.text(f"{name:<{NAME_WIDTH}} {text}")

    def ready(self, name: str, seconds: float, log: Path | None = None) -> None:
        """A process that can be used, and where it writes."""
        self.line(name, f"ready in {seconds:.1f} s" + (f"   log {log}" if log is not None else ""))

    def text(self, text: str) -> None:
        """A whole line."""
        self._write((CLEAR_LINE if self._terminal else "") + text + "\n")

    def passing(self, text: str) -> None:
        """A line that the next one overwrites; nothing where the output is not a terminal."""
        if self._terminal:
            self._write(CLEAR_LINE + text)

    def _write(self, text: str) -> None:
        with suppress(OSError):
            sys.stdout.write(text)
            sys.stdout.flush()
