"""The control worker's round: what must happen even if every message was lost."""

import logging
import time
from dataclasses import dataclass, field

from sqlalchemy import func, or_, select

from app.db import transaction
from app.files.service import remove_expired
from app.files.uploads import expire_uploads
from app.jobs import idempotency, leases, preparations, validation
from app.registry import base_models
from app.storage.database import collect_orphans
from app.tables import Job
from worker.context import WorkerContext

logger = logging.getLogger(__name__)

CLEAN_EVERY_S = 300.0
SCAN_EVERY_S = 30.0
MAX_WAKES = 32  # of a queue in one round: one wake occupies one worker until nothing waits


@dataclass
class Rounds:
    """The rounds of one control worker, and when the slower chores were last done."""

    context: WorkerContext
    _cleaned_at: float = field(default=float("-inf"))
    _scanned_at: float = field(default=float("-inf"))

    def tick(self) -> None:
        """Reap lost leases, move validated jobs, wake workers if anything waits; now and then scan and clean."""
        with transaction(self.context.sessions) as session:
            reaped = leases.reap(session)
            preparations.settle_ended(session, reaped)
            validation.advance(session)
        for job in reaped:
            logger.warning("job %s: worker lost, now %s", job.id, job.status)
        if time.monotonic() - self._scanned_at > SCAN_EVERY_S:
            self.scan()
        if time.monotonic() - self._cleaned_at > CLEAN_EVERY_S:
            self._clean()
        self._wake()

    def scan(self) -> None:
        """Register the base models this machine has."""
        found = base_models.scan(self.context.settings.base_models_dir)
        with transaction(self.context.sessions) as session:
            base_models.register(session, found)
        self._scanned_at = time.monotonic()

    def _clean(self) -> None:
        with transaction(self.context.sessions) as session:
            expired = remove_expired(session)
            uploads = expire_uploads(session)
        with transaction(self.context.sessions) as session:
            idempotency.forget(session)
            blobs = collect_orphans(session)
        if expired or uploads or blobs:
            logger.info(
                "removed %d expired files, %d expired uploads and %d unreferenced blobs",
                len(expired),
                len(uploads),
                blobs,
            )
        self._cleaned_at = time.monotonic()

    def _wake(self) -> None:
        due = or_(Job.run_after.is_(None), Job.run_after <= func.now())
        with transaction(self.context.sessions) as session:
            waiting = session.execute(
                select(Job.queue, func.count()).where(Job.status == "queued", due).group_by(Job.queue)
            ).all()
        for queue, count in waiting:
            for _ in range(min(count, MAX_WAKES)):
                self.context.wake(queue)
