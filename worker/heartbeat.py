"""The sign of life of a leased job, from a thread that nothing slow can hold up."""

import logging
import threading
import uuid
from typing import Self

from app.db import transaction
from app.jobs import leases
from app.jobs.leases import Progress
from worker.context import DATABASE_AWAY, WorkerContext

logger = logging.getLogger(__name__)

PROGRESS_S = 1.0  # new progress is shown this soon, however long the renewal interval


class Heartbeat:
    """Renews a lease until closed. `lost`: another worker may have the job; `cancelled`: the client wants its end.

    A renewal that cannot reach the database changes nothing: the lease is lost only when the database says so.
    """

    def __init__(self, context: WorkerContext, token: uuid.UUID) -> None:
        self.lost = threading.Event()
        self.cancelled = threading.Event()
        self._context = context
        self._token = token
        self._progress: Progress | None = None
        self._news = threading.Event()
        self._closed = threading.Event()
        self._renewing = threading.Lock()  # two at once could store an older progress over a newer
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def show(self, progress: Progress) -> None:
        """Store this with the next renewal, which comes soon."""
        self._progress = progress
        self._news.set()

    def flush(self) -> None:
        """Store the last progress now: a job that ends shows where it ended."""
        with self._renewing:
            if self._progress is not None:
                self._renew_once()

    def _beat(self) -> None:
        while not self._closed.is_set() and not self.lost.is_set():
            self._news.clear()
            self._renew()
            self._closed.wait(min(PROGRESS_S, self._context.settings.renew_s))
            self._news.wait(max(0.0, self._context.settings.renew_s - PROGRESS_S))

    def _renew(self) -> None:
        with self._renewing:
            self._renew_once()

    def _renew_once(self) -> None:
        progress, self._progress = self._progress, None
        try:
            with transaction(self._context.sessions) as session:
                intents = leases.renew(session, self._token, lease=self._context.lease, progress=progress)
        except DATABASE_AWAY as error:
            logger.warning("lease not renewed, database away: %s", str(error).partition("\n")[0])
            self._progress = self._progress or progress
            return
        if intents is None:
            self.lost.set()
        elif intents.cancel:
            self.cancelled.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._news.set()
        self._thread.join()
