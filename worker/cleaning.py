"""What the control worker removes: only what nothing refers to any more, in transactions of a second or two."""

import logging
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from app.db import transaction
from app.files.service import remove_expired
from app.files.uploads import expire_uploads
from app.jobs import idempotency, preparations, retention, workers
from app.settings import Settings
from app.storage.database import collect_chunks, collect_orphans
from app.webhooks import deliveries
from worker.context import DATABASE_AWAY, WorkerContext

logger = logging.getLogger(__name__)

CLEAN_EVERY_S = 300.0

Chore = Callable[[Session], int | Sized]  # removes some, and says how many or which; nothing when nothing is left


def chores(settings: Settings) -> dict[str, Chore]:
    """What is to be removed, in an order in which each makes the next ones possible."""
    checkpoints_kept_for = timedelta(days=settings.checkpoint_retention_days)
    return {
        "expired files": remove_expired,
        "expired uploads": expire_uploads,
        "checkpoints": partial(retention.remove_checkpoints, kept_for=checkpoints_kept_for),
        "files of training states": retention.remove_training_state,
        "preparation jobs": preparations.forget_jobs,
        "idempotency records": idempotency.forget,
        "webhook deliveries": partial(deliveries.forget, kept_for=timedelta(days=settings.webhook_log_days)),
        "workers": workers.forget_silent,
        "unreferenced blobs": collect_orphans,
        "chunks of removed blobs": collect_chunks,
    }


@dataclass
class Cleaning:
    """The chores of one control worker. `is_settled`: nobody has yet to come back from an outage of the database.

    Whoever was cut off holds blobs that no row names yet.
    """

    context: WorkerContext
    is_settled: Callable[[], bool]
    _cleaned_at: float = field(default=float("-inf"))

    def clean_if_due(self) -> None:
        """Clean if it was not done lately."""
        if time.monotonic() - self._cleaned_at > CLEAN_EVERY_S and self.is_settled():
            self.clean()
            self._cleaned_at = time.monotonic()

    def clean(self) -> None:
        """Do every chore until nothing is left of it, or this worker drains."""
        removed = {name: self._remove_all(name, chore) for name, chore in chores(self.context.settings).items()}
        if any(removed.values()):
            logger.info("removed %s", ", ".join(f"{count} {name}" for name, count in removed.items() if count))

    def _remove_all(self, name: str, chore: Chore) -> int:
        total = 0
        try:
            while not self.context.draining.is_set() and (count := self._remove_some(chore)) > 0:
                total += count
        except DATABASE_AWAY:
            raise
        except Exception:  # one that fails must not keep the others from being done
            logger.exception("not all %s could be removed", name)
        return total

    def _remove_some(self, chore: Chore) -> int:
        with transaction(self.context.sessions) as session:
            done = chore(session)
        return done if isinstance(done, int) else len(done)
