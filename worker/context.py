"""What every part of a worker process works with."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import psycopg
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from app.db import SessionFactory, transaction
from app.settings import Settings
from app.storage.blobs import BlobStore
from worker.process import Standby

logger = logging.getLogger(__name__)

# The blob store speaks to the driver itself, whose errors SQLAlchemy then does not wrap.
DATABASE_AWAY = (
    OperationalError,
    InterfaceError,
    PoolTimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
RETRY_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerContext:
    """Connections, settings and signals of one worker process. `owner` names it in leases."""

    settings: Settings
    sessions: SessionFactory
    blobs: BlobStore
    owner: str
    draining: threading.Event
    standby: Standby
    wake: Callable[[str], None]

    @property
    def lease(self) -> timedelta:
        """How long a lease lasts without a sign of life."""
        return timedelta(seconds=self.settings.lease_s)

    def patiently(self, work: Callable[[], T], given_up: threading.Event) -> T | None:
        """Do `work`, from its beginning again while the database is away; None once `given_up` is set.

        Without a database nobody can take the job away, so waiting loses nothing.
        """
        while not given_up.is_set():
            try:
                return work()
            except DATABASE_AWAY as error:
                logger.warning("database away, trying again: %s", str(error).partition("\n")[0])
                given_up.wait(RETRY_S)
        return None

    def persist(self, write: Callable[[Session], T], given_up: threading.Event) -> T | None:
        """Run `write` in a transaction, patiently. It is fenced by the lease's token and safe to repeat."""

        def commit() -> T:
            with transaction(self.sessions) as session:
                return write(session)

        return self.patiently(commit, given_up)
