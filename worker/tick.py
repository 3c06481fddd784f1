"""The control worker's round: what must happen even if every message was lost."""

import logging
import time
from dataclasses import dataclass, field

from sqlalchemy import extract, func, select

from app.db import transaction
from app.jobs import leases, preparations, registrations, validation
from app.registry import base_models
from worker.context import WorkerContext

logger = logging.getLogger(__name__)

SCAN_EVERY_S = 30.0
SETTLING_RENEWALS = 3  # a worker that lives has renewed its lease this many intervals after an outage of the database


@dataclass
class Rounds:
    """The rounds of one control worker, and when the database last answered."""

    context: WorkerContext
    _scanned_at: float = field(default=float("-inf"))
    _answered_at: float = field(default=float("inf"))
    _back_at: float = field(default=float("-inf"))

    def tick(self) -> None:
        """Reap lost leases, move validated jobs, wake workers for both; now and then scan."""
        settled = self.is_settled()
        with transaction(self.context.sessions) as session:
            reaped = leases.reap(session) if settled else []
            preparations.settle_ended(session, reaped)
            registrations.settle_ended(session, reaped)
            validated = validation.advance(session)
        for job in reaped:
            logger.warning("job %s: worker lost, now %s", job.id, job.status)
        for job in (*reaped, *validated):
            self.context.wake(job.queue)
        if time.monotonic() - self._scanned_at > SCAN_EVERY_S:
            self.scan()
        self._answered_at = time.monotonic()

    def is_settled(self) -> bool:
        """Whether the database has been there for long enough that whoever waited for it has come back.

        While it was away no lease could be renewed, so an expired one says nothing about its worker. It was away when
        it started not long ago, and when it did not answer between two rounds (frozen, or out of reach for us).
        """
        settings = self.context.settings
        with transaction(self.context.sessions) as session:
            up_s = session.scalars(select(extract("epoch", func.now() - func.pg_postmaster_start_time()))).one()
        now = time.monotonic()
        if now - self._answered_at > 2 * settings.tick_s:
            self._back_at = now
        return min(float(up_s), now - self._back_at) > SETTLING_RENEWALS * settings.renew_s

    def scan(self) -> None:
        """Register the base models this machine has."""
        found = base_models.scan(self.context.settings.base_models_dir)
        with transaction(self.context.sessions) as session:
            base_models.register(session, found)
        self._scanned_at = time.monotonic()
