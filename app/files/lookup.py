"""Find a file of a project, and see whether it can be one of a job's."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.tables import File


def get_file(
    session: Session, project_id: str, file_id: str, *, param: str | None = None, status: int = 404, lock: bool = False
) -> File:
    """The file. Raises AppError `status` (404; 400 where the id stands in a request body) if the project has none.

    `lock` keeps it from being deleted before this transaction ends.
    """
    query = select(File).where(File.id == file_id, File.project_id == project_id, File.deleted_at.is_(None))
    file = session.scalar(query.with_for_update(read=True) if lock else query)
    if file is None:
        error = not_found("file", file_id, param)
        raise AppError(status, error.code, error.message, param)
    return file


def check_purpose(file: File, param: str) -> None:
    """Raises AppError 400 for a file that is no data set."""
    if file.purpose not in ("fine-tune", "evals", "user_data"):
        message = f"{param} {file.id} was uploaded with purpose {file.purpose!r}; upload it with purpose 'fine-tune'."
        raise AppError(400, "wrong_purpose", message, param)
