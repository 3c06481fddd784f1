"""What a child says, heard as it says it: the moments at which these tests strike, and what they compare with."""

import queue
from collections.abc import Callable
from dataclasses import replace

from worker.context import WorkerContext
from worker.process import Child, Standby
from worker.protocol import Event


class _Heard(queue.SimpleQueue):
    """A child's events on their way to its supervisor."""

    def __init__(self, child: Child, hear: Callable[[Child, Event], None]) -> None:
        super().__init__()
        self._child = child
        self._hear = hear

    def put(self, item: Event | None, block: bool = True, timeout: float | None = None) -> None:
        if item is not None:
            self._hear(self._child, item)
        super().put(item)


class Overhearing(Standby):
    """Hands out another standby's children, and everything they say to `hear` before their supervisor gets it."""

    def __init__(self, standby: Standby, hear: Callable[[Child, Event], None]) -> None:
        self._standby = standby
        self._hear = hear

    @property
    def waiting_pid(self) -> int | None:
        return self._standby.waiting_pid

    def take(self) -> Child:
        child = self._standby.take()
        child.events = _Heard(child, self._hear)
        return child

    def refill(self) -> None:
        self._standby.refill()

    def close(self) -> None:
        pass  # it belongs to others


def overhearing(context: WorkerContext, hear: Callable[[Child, Event], None]) -> WorkerContext:
    """The same worker with everything its children say given to `hear` too."""
    return replace(context, standby=Overhearing(context.standby, hear))
