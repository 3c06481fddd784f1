"""The sign of life of a leased job, from a thread that nothing slow can hold up."""

import logging
import threading
import time
import uuid
from typing import Self

from app.db import transaction
from app.jobs import leases
from app.jobs.leases import Intents, Progress
from worker.context import DATABASE_AWAY, WorkerContext

logger = logging.getLogger(__name__)

PROGRESS_S = 1.0  # new progress is shown this soon, however long the renewal interval
INTENTS_S = 2.0  # what the client wants is seen this soon: a look costs a read, a renewal a write


class Heartbeat:
    """Renews a lease until closed. `lost`: another worker may have the job; the rest is what the client wants.

    A renewal that cannot reach the database changes nothing: the lease is lost only when the database says so.
    """

    def __init__(self, context: WorkerContext, token: uuid.UUID) -> None:
        self.lost = threading.Event()
        self.cancelled = threading.Event()
        self.paused = threading.Event()
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
            renew_at = time.monotonic() + self._context.settings.renew_s
            self._closed.wait(min(PROGRESS_S, self._context.settings.renew_s))
            while (left_s := renew_at - time.monotonic()) > 0 and not self._news.wait(min(INTENTS_S, left_s)):
                self._look()

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
        self._obey(intents)

    def _look(self) -> None:
        try:
            with transaction(self._context.sessions) as session:
                intents = leases.intents(session, self._token)
        except DATABASE_AWAY:
            return  # the next renewal says so
        self._obey(intents)

    def _obey(self, intents: Intents | None) -> None:
        if intents is None:
            self.lost.set()
            return
        if intents.cancel:
            self.cancelled.set()
        if intents.pause:
            self.paused.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._news.set()
        self._thread.join()
