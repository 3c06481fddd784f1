"""What stays of a job that has ended, and for how long."""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db import run_once
from app.jobs import use
from app.registry import adapters, models
from app.tables import TERMINAL_STATUSES, Checkpoint, Job, Model, StoredFile

REMOVED_AT_ONCE = 100


def remove_checkpoints(session: Session, kept_for: timedelta) -> list[str]:
    """Remove some checkpoints of jobs that ended longer ago than this; returns the ids of their models.

    One that an unfinished job starts from stays until that has ended, and one that adapters belong on as long as they
    do. The model's row stays and says when it went.
    """
    old = (
        select(Checkpoint.model_id)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(
            Job.status.in_(TERMINAL_STATUSES),
            Job.finished_at < func.now() - kept_for,
            ~use.is_needed(Checkpoint.model_id),
            ~adapters.needs(Checkpoint.model_id),
        )
        .order_by(Checkpoint.seq)
        .limit(REMOVED_AT_ONCE)
    )
    locked = session.scalars(select(Model).where(Model.id.in_(old)).with_for_update(skip_locked=True)).all()
    # Asked again behind the lock: a job may have been created on the model in between.
    removed = [
        model
        for model in locked
        if not use.unfinished_jobs_of_model(session, model.id) and not adapters.on(session, model.id)
    ]
    for model in removed:
        models.delete(session, model, unfinished_jobs=())
    return [model.id for model in removed]


def remove_training_state(session: Session) -> int:
    """Remove what only a resume needs (optimizer, random states) of some checkpoints of jobs that succeeded.

    It is most of a checkpoint. The weights stay: they are the files of the checkpoint's model. Returns how many files.
    """
    owners = select(Checkpoint.id).join(Job, Job.id == Checkpoint.job_id).where(Job.status == "succeeded")
    some = (
        select(StoredFile.owner_id)
        .where(StoredFile.owner_id.in_(owners))
        .limit(REMOVED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    result = session.execute(
        delete(StoredFile).where(StoredFile.owner_id.in_(run_once(some))).returning(StoredFile.path)
    )
    return len(result.all())
