"""Something slow between steps: it says how far it is, as a sign of life, and it ends when the run is stopped."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.protocol import Event, Phase
from worker.training.failures import StoppedError
from worker.training.pace import now

INTERVAL_S = 1.0


@dataclass
class Watch:
    """What goes on is called `name`; `total` is what there is to do."""

    name: str
    total: int
    stop: threading.Event
    emit: Callable[[Event], None]
    done: int = 0
    began: float = field(default_factory=now)
    told_at: float = field(default_factory=now)

    def check(self) -> None:
        """Raise StoppedError once the run is to stop."""
        if self.stop.is_set():
            raise StoppedError

    def add(self, amount: int) -> None:
        """So much more is done; told at most every second."""
        self.done += amount
        if now() - self.told_at >= INTERVAL_S:
            self.told_at = now()
            left_s = (self.told_at - self.began) * (self.total - self.done) / self.done if self.done else None
            self.emit(Phase(self.name, self.done, self.total, left_s))
