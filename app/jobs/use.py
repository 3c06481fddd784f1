"""Which files and models unfinished jobs need: those cannot be deleted."""

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.tables import TERMINAL_STATUSES, File, Job, JobInput

SHOWN_JOBS = 10


def unfinished_jobs_of_file(session: Session, file: File) -> list[str]:
    """Jobs and evaluations that still need the file."""
    query = select(Job.id).where(_reads(file.id), Job.status.not_in(TERMINAL_STATUSES)).order_by(Job.seq)
    return list(session.scalars(query.limit(SHOWN_JOBS)))


def has_unfinished_jobs() -> ColumnElement[bool]:
    """The condition that a file is needed by a job or an evaluation."""
    return exists().where(_reads(File.id), Job.status.not_in(TERMINAL_STATUSES))


def _reads(file_id: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    own = (Job.training_file == file_id) | (Job.validation_file == file_id) | (Job.test_file == file_id)
    return own | exists().where(JobInput.job_id == Job.id, JobInput.file_id == file_id).correlate_except(JobInput)


def unfinished_jobs_of_model(session: Session, model_id: str) -> list[str]:
    """Jobs that still need the model, as their base or for a method, and evaluations of it."""
    query = select(Job.id).where(_uses(Job, model_id), Job.status.not_in(TERMINAL_STATUSES)).order_by(Job.seq)
    return list(session.scalars(query.limit(SHOWN_JOBS)))


def is_needed(model_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The condition that an unfinished job needs the model that a column of another table names."""
    user = aliased(Job)
    return exists().where(_uses(user, model_id), user.status.not_in(TERMINAL_STATUSES))


def _uses(job: type[Job], model_id: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    further = exists().where(JobInput.job_id == job.id, JobInput.model_id == model_id).correlate_except(JobInput)
    return (job.model == model_id) | further
