"""Where the files of one attempt lie on a worker's disk, and what becomes of those that a killed worker left there."""

import logging
import re
import shutil
import uuid
from pathlib import Path

from sqlalchemy import select

from app.db import transaction
from app.settings import Settings
from app.tables import Job
from worker.context import WorkerContext

logger = logging.getLogger(__name__)

NAME = re.compile(r"[a-z]+-[0-9a-f]+-\d+-(?P<token>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def path_of(settings: Settings, job: Job) -> Path:
    """The directory of the attempt that holds the job's lease. Its name ends in the lease's token."""
    return settings.runs_dir / f"{job.id}-{job.attempt}-{job.lease_token}"


def remove_leftovers(context: WorkerContext) -> None:
    """Delete the run directories of leases that nobody holds any more; several workers may share a disk."""
    try:
        names = [path.name for path in context.settings.runs_dir.iterdir()]
    except FileNotFoundError:
        return
    # After the listing: a lease is taken before its directory is made.
    tokens = {name: uuid.UUID(match["token"]) for name in names if (match := NAME.fullmatch(name))}
    with transaction(context.sessions) as session:
        held = set(session.scalars(select(Job.lease_token).where(Job.lease_token.in_(tokens.values()))))
    for name, token in tokens.items():
        if token not in held:
            logger.info("removing %s, which a lost attempt left", name)
            shutil.rmtree(context.settings.runs_dir / name, ignore_errors=True)
