"""How far a long command has come: a bar on a terminal, elsewhere a line now and then."""

import sys
import time

MIB = 1024 * 1024
WIDTH = 30
REDRAW_S = 0.2
LINE_EVERY_S = 30.0
CLEAR_LINE = "\r\x1b[K"


class ProgressBar:
    """Bytes moved of a known total, on standard error: standard output may be the result."""

    def __init__(self, verb: str, total: int) -> None:
        self._verb = verb
        self._total = max(total, 1)
        self._moved = 0
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown = float("-inf") if self._terminal else self._began

    def add(self, moved: int) -> None:
        """Count some more bytes."""
        self._moved += moved
        now = time.monotonic()
        if now - self._shown >= (REDRAW_S if self._terminal else LINE_EVERY_S):
            self._shown = now
            self._write(self._text(now - self._began))

    def close(self) -> None:
        """Leave the line to others."""
        if self._terminal:
            self._write("")

    def _text(self, elapsed_s: float) -> str:
        share = min(self._moved / self._total, 1.0)
        speed = self._moved / max(elapsed_s, 0.001)
        left_s = max(self._total - self._moved, 0) / speed
        bar = "".ljust(round(share * WIDTH), "#").ljust(WIDTH, ".")
        return (
            f"{self._verb} [{bar}] {share:4.0%}  {size(self._moved)} of {size(self._total)}  "
            f"{size(int(speed))}/s  {left_s:.0f} s left"
        )

    def _write(self, text: str) -> None:
        sys.stderr.write(CLEAR_LINE + text if self._terminal else text + "\n")
        sys.stderr.flush()


def size(count: int) -> str:
    """A number of bytes for people."""
    if count < MIB:
        return f"{count / 1024:.0f} KiB"
    return f"{count / MIB:.0f} MiB" if count < 1024 * MIB else f"{count / 1024 / MIB:.1f} GiB"
