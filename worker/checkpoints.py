"""Checkpoints between a run directory and the blob store: pushed while training goes on, restored before a resume."""

import itertools
import logging
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import transaction
from app.jobs import events, leases, use
from app.jobs.events import Event
from app.registry import adapters, models
from app.registry.models import PublishedFile, checkpoint_id
from app.storage.blobs import get_file, put_file
from app.tables import Checkpoint, Job, Model, new_id
from worker import protocol
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.protocol import CHECKPOINTS, checkpoint_name
from worker.relay import Relay

logger = logging.getLogger(__name__)


def put_directory(context: WorkerContext, directory: Path, files: Mapping[str, int]) -> list[PublishedFile]:
    """Store a directory as its writer listed it. Raises OSError if something is missing or of another size."""
    published = [PublishedFile(path, put_file(context.blobs, directory / path)) for path in sorted(files)]
    for file in published:
        if file.blob.bytes != files[file.path]:
            raise OSError(f"{file.path} was written with {files[file.path]} bytes and has {file.blob.bytes}")
    return published


@dataclass(frozen=True)
class _Waiting:
    said: protocol.Checkpoint
    directory: Path
    said_before: int  # things that the relay had been given when the checkpoint was announced


def _supersedes(newer: protocol.Checkpoint, older: protocol.Checkpoint) -> bool:
    if newer.step == older.step:
        return True
    return not older.pinned and (newer.best or not older.best)


class CheckpointPusher:
    """Pushes checkpoints from a thread of its own, each behind everything that was said before it.

    A run that goes on from a checkpoint never says again what led there, so that has to be stored first.
    Where the store is slower than training, a checkpoint that is neither the newest nor the best nor pinned is skipped.
    """

    def __init__(self, context: WorkerContext, job: Job, run_dir: Path, heartbeat: Heartbeat, relay: Relay) -> None:
        self._context = context
        self._job = job
        self._run_dir = run_dir
        self._heartbeat = heartbeat
        self._relay = relay
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._push_all, name="checkpoints", daemon=True)
        self._thread.start()

    def add(self, said: protocol.Checkpoint) -> None:
        """Take a checkpoint. Its files are linked aside at once, since the child deletes old checkpoints.

        One that is gone already, or is another by now, was deleted or replaced for a newer one, of which the child has
        told behind this one. Raises OSError for a run directory that cannot be used.
        """
        # A number of its own: the end of a stage has the step of the stage's last checkpoint, which may still wait.
        source, aside = self._run_dir / said.path, self._run_dir / "outbox" / f"{next(self._numbers)}-step-{said.step}"
        try:
            shutil.copytree(source, aside, copy_function=os.link)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if source.exists() or not source.parent.exists():
                raise
            return
        if protocol.listing(aside) != said.files:
            shutil.rmtree(aside)
            return
        with self._changed:
            superseded = [item for item in self._waiting if _supersedes(said, item.said)]
            self._waiting = [item for item in self._waiting if item not in superseded]
            self._waiting.append(_Waiting(said, aside, self._relay.added))
            self._changed.notify()
        for item in superseded:
            shutil.rmtree(item.directory, ignore_errors=True)

    def close(self) -> None:
        """Push what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _next(self) -> _Waiting | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.pop(0) if self._waiting else None

    def _push_all(self) -> None:
        while (item := self._next()) is not None:
            if not self._heartbeat.lost.is_set():
                try:
                    self._push(item)
                except OSError as error:
                    step = item.said.step
                    logger.warning("job %s: checkpoint of step %d not stored: %s", self._job.id, step, error)
                    message = f"The checkpoint of step {step} could not be read from the worker's disk: {error}"
                    self._relay.tell(Event(message, "warn", data={"step": step}))
            shutil.rmtree(item.directory, ignore_errors=True)

    def _push(self, item: _Waiting) -> None:
        lost = self._heartbeat.lost
        files = self._context.patiently(lambda: put_directory(self._context, item.directory, item.said.files), lost)
        self._relay.wait_until_written(item.said_before)
        if files is not None:
            self._context.persist(lambda session: self._publish(session, item.said, files), lost)

    def _publish(
        self,
        session: Session,
        said: protocol.Checkpoint,
        files: list[PublishedFile],
    ) -> None:
        assert self._job.lease_token is not None
        job = leases.hold(session, self._job.lease_token)
        if job is None:
            self._heartbeat.lost.set()
            return
        same_step = select(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.step == said.step)
        forget(session, session.scalars(same_step).all())
        model_id = checkpoint_id(job.spec["fine_tuned_model"], said.step)
        prefix = f"{Path(said.model_path).name}/"
        weights = [
            PublishedFile(file.path.removeprefix(prefix), file.blob) for file in files if file.path.startswith(prefix)
        ]
        size = sum(file.blob.bytes for file in weights)
        model = models.made_by(session, job, model_id, "checkpoint", task=said.task, size=size, metrics=said.metrics)
        models.publish(session, model, weights)
        checkpoint = Checkpoint(
            id=new_id("ftckpt"),
            job_id=job.id,
            step=said.step,
            best=said.best,
            pinned=said.pinned,
            metrics={"step": said.step, **said.metrics},
            model_id=model_id,
        )
        session.add(checkpoint)
        session.flush()
        models.store_files(session, checkpoint.id, files)
        if said.best:
            for other in session.scalars(select(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.best)):
                other.best = other.id == checkpoint.id
            session.flush()
        _prune(session, job.id, self._context.settings.keep_checkpoints)
        events.append(
            session,
            job.id,
            [
                Event(
                    f"Checkpoint created at step {said.step}",
                    data={"step": said.step, "model": model_id},
                    # A commit whose answer was lost is repeated.
                    source=f"{self._job.lease_token}:checkpoint-{said.step}",
                )
            ],
        )


def _prune(session: Session, job_id: str, keep: int) -> None:
    """Keep the best, the newest, the pinned, and as many further new ones as the setting says.

    Never a model that a job needs.
    """
    rows = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step.desc())).all()
    kept = [row for row in rows if row.best] + [row for row in rows if not row.best]
    kept_ids = {row.id for row in (*rows[:1], *kept[:keep])}
    surplus = [row for row in rows if row.id not in kept_ids and not row.pinned]
    # A job that is being created on one of them comes first or not at all.
    session.execute(select(Model.id).where(Model.id.in_([row.model_id for row in surplus])).with_for_update())
    idle = [row for row in surplus if not use.unfinished_jobs_of_model(session, row.model_id)]
    forget(session, [row for row in idle if not adapters.on(session, row.model_id)])


def forget(session: Session, checkpoints: Sequence[Checkpoint]) -> None:
    """Delete checkpoints with their models and files."""
    for checkpoint in checkpoints:
        models.remove_bytes(session, checkpoint.id)
        models.remove_bytes(session, checkpoint.model_id)
        session.delete(checkpoint)
        session.flush()
        session.execute(delete(Model).where(Model.id == checkpoint.model_id))


def restore(context: WorkerContext, job: Job, run_dir: Path) -> str | None:
    """Bring back the job's last checkpoint, its best and the pinned; returns the last one's path in `run_dir`."""
    with transaction(context.sessions) as session:
        rows = session.scalars(
            select(Checkpoint).where(Checkpoint.job_id == job.id).order_by(Checkpoint.step.desc())
        ).all()
        wanted = [row for row in rows if row.best or row.pinned or row is rows[0]]
        stored = [(row, models.files(session, row.id)) for row in wanted]
    for row, files in stored:
        for file in files:
            get_file(context.blobs, file.blob_id, run_dir / CHECKPOINTS / checkpoint_name(row.step) / file.path)
    return f"{CHECKPOINTS}/{checkpoint_name(rows[0].step)}" if rows else None
