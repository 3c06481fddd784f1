"""Signals of `tailor up`: the first one asks for a drain, the next one for haste; a child's death ends a wait early."""

import os
import select
import signal
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

ASK_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While entered, the first signal that asks to stop raises KeyboardInterrupt in the main thread, once."""

    def __init__(self) -> None:
        self.count = 0
        self._armed = True

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._previous_descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # `nohup` ignores SIGHUP, and so do we then.
        asked = [number for number in ASK_TO_STOP if number != signal.SIGHUP or not ignored(number)]
        self._previous = {number: signal.signal(number, self._on_stop) for number in asked}
        # A handler, even one that does nothing, is what makes the signal write to the pipe.
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_descriptor)
        os.close(self._read)
        os.close(self._write)

    def disarm(self) -> None:
        """From here on signals are only counted."""
        self._armed = False

    def wait(self, timeout_s: float) -> None:
        """Returns after `timeout_s`, or at the next signal of any kind, one since the last wait included."""
        select.select([self._read], [], [], max(0.0, timeout_s))
        with suppress(BlockingIOError):
            os.read(self._read, 4096)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._armed:
            self._armed = False
            raise KeyboardInterrupt


def ignored(number: signal.Signals) -> bool:
    """Whether whoever started this process had the signal ignored."""
    return signal.getsignal(number) is signal.SIG_IGN
