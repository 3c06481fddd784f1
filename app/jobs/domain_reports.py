"""The domain report of a fine-tuning job: what its adaptation came to, as data and as a page. Files of its model."""

from typing import Literal

from sqlalchemy.orm import Session

from app.errors import AppError
from app.jobs import service
from app.projects import Caller
from app.tables import TERMINAL_STATUSES, Job, StoredFile

Format = Literal["json", "html"]
PATHS: dict[Format, str] = {"json": "domain_report.json", "html": "domain_report.html"}  # in the model's directory


def find(session: Session, caller: Caller, job_id: str, form: Format) -> StoredFile:
    """The report of a job. Raises AppError 404, or 409 for a job that has one once it ends."""
    job = service.get(session, caller, job_id)
    file = session.get(StoredFile, (job.fine_tuned_model, PATHS[form])) if job.fine_tuned_model else None
    if file is not None:
        return file
    will_have = bool(job.inputs or job.spec["adaptation"])
    if will_have and job.status not in TERMINAL_STATUSES:
        message = f"Job {job.id} is {job.status}; its domain report is there when it has succeeded."
        raise AppError(409, "report_not_ready", message, extra={"allowed": ["succeeded"]})
    raise AppError(404, "report_not_found", f"Job {job.id} {_why_none(job, will_have=will_have)}")


def _why_none(job: Job, *, will_have: bool) -> str:
    if not will_have:
        return "has no domain report: one is made for jobs with target_files or with an entry in adaptation."
    if job.status != "succeeded":
        return f"has no domain report, since it has not succeeded: it is {job.status}."
    return f"has no domain report any more, or was trained before there were any; it lay with {job.fine_tuned_model}."
