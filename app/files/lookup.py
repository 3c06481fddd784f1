"""Find a file of a project."""

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
