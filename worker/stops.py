"""Why a supervisor asks a running child to stop."""

import time
from dataclasses import dataclass, field

from app.settings import Settings
from worker import protocol
from worker.heartbeat import Heartbeat


@dataclass(frozen=True)
class TimeLimit:
    """How long an attempt may take, what reaching that means, and the grace for a last checkpoint."""

    limit_s: float
    failure: protocol.Failure
    grace_s: float


@dataclass(frozen=True)
class Limits:
    """Bounds of a kind of job; None: there is none."""

    time: TimeLimit | None
    hang_timeout_s: float | None


@dataclass(frozen=True)
class Stop:
    """The child has `grace_s` to stop. `failure` is what the attempt came to, unless the child is done just in time."""

    grace_s: float
    failure: protocol.Failure | None = None
    hung: bool = False


@dataclass
class Signs:
    """What is known of one attempt that may end it: the client's wishes, the clock, the child's silence."""

    settings: Settings
    heartbeat: Heartbeat
    limits: Limits
    draining: bool = False
    _began: float = field(default_factory=time.monotonic)
    _heard: float = field(default_factory=time.monotonic)

    def heard(self) -> None:
        """The child said something."""
        self._heard = time.monotonic()

    def stop(self) -> Stop | None:
        """The most pressing reason to stop, if there is one."""
        now = time.monotonic()
        if self.heartbeat.cancelled.is_set():
            return Stop(self.settings.cancel_grace_s)
        time_limit = self.limits.time
        if time_limit is not None and now - self._began > time_limit.limit_s:
            return Stop(time_limit.grace_s, time_limit.failure)
        silent_s = self.limits.hang_timeout_s
        if silent_s is not None and now - self._heard > silent_s:
            return Stop(self.settings.cancel_grace_s, _hung(silent_s), hung=True)
        if self.heartbeat.paused.is_set() or self.draining:
            return Stop(self.settings.drain_grace_s)
        return None


def _hung(silent_s: float) -> protocol.Failure:
    message = f"The job's process made no progress for {silent_s:g} s (TAILOR_HANG_TIMEOUT_S) and was stopped."
    return protocol.Failure("system_error", "child_hung", message)
