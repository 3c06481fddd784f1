"""Uploads in parts: made, filled, looked at, cancelled, expired. `completion` makes a file of one.

Whoever changes an upload or adds a part to it locks its row first, for the moment that a few rows take.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.files.limits import SizeLimit
from app.jobs import columns
from app.projects import Caller
from app.settings import Settings
from app.storage.blobs import BlobRef
from app.tables import File, Upload, UploadPart, new_id

MAX_PART_BYTES = 64 * 1024 * 1024
MAX_PARTS = 10_000
COPIES = (
    2  # of its declared bytes that an upload may hold: each part may come again, damaged or unanswered the first time
)
KEPT_FOR = timedelta(days=30)  # an upload that has ended, for those who ask what became of it


@dataclass(frozen=True)
class NewUpload:
    """A file that is announced: its name, purpose and size, how to read it, and when the file expires."""

    filename: str
    purpose: str
    bytes: int
    task: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    file_expires_after: timedelta | None = None


def create(session: Session, caller: Caller, new: NewUpload, settings: Settings) -> Upload:
    """Begin an upload. Raises AppError 413 for more bytes than a file may have."""
    if new.bytes > settings.max_file_bytes:
        message = f"bytes is {new.bytes:,}, and TAILOR_MAX_FILE_BYTES allows {settings.max_file_bytes:,}."
        raise AppError(413, "file_too_large", message, "bytes")
    columns.check(new.task, new.columns)
    expires_after = new.file_expires_after
    upload = Upload(
        id=new_id("upload"),
        project_id=caller.project_id,
        filename=new.filename,
        purpose=new.purpose,
        bytes=new.bytes,
        task=new.task,
        columns=dict(new.columns),
        file_expires_after_s=int(expires_after.total_seconds()) if expires_after else None,
        status="pending",
        expires_at=func.now() + timedelta(seconds=settings.upload_lifetime_s),
    )
    session.add(upload)
    session.flush()
    return upload


def get(session: Session, caller: Caller, upload_id: str, *, lock: bool = False) -> Upload:
    """The upload. Raises AppError 404 if the project has none of this id. `lock`: nobody else changes it meanwhile."""
    query = select(Upload).where(Upload.id == upload_id, Upload.project_id == caller.project_id)
    upload = session.scalar(query.with_for_update() if lock else query)
    if upload is None:
        raise not_found("upload", upload_id)
    return upload


def status_of(upload: Upload) -> str:
    """The status as clients see it: an upload expires on time, and not when the control worker comes round."""
    return "expired" if upload.status == "pending" and upload.past_expiry else upload.status


def get_pending(session: Session, caller: Caller, upload_id: str, *, lock: bool = False) -> Upload:
    """As `get`. Raises AppError 409 if the upload has ended."""
    upload = get(session, caller, upload_id, lock=lock)
    if status_of(upload) != "pending":
        raise ended(upload)
    return upload


def ended(upload: Upload) -> AppError:
    """409: what became of the upload, and what to do."""
    status = status_of(upload)
    how = {
        "completed": f"is completed: it has become {upload.file_id}. Create another one for another file",
        "cancelled": "was cancelled; create another one",
        "expired": f"expired at {upload.expires_at:%Y-%m-%d %H:%M:%S} UTC; create another one, or raise "
        "TAILOR_UPLOAD_LIFETIME_S",
    }
    message = f"Upload {upload.id} {how[status]}."
    return AppError(409, f"upload_{status}", message, extra={"allowed": []})


def file_of(session: Session, upload: Upload) -> File | None:
    """The file that a completed upload has become; None if it was deleted since."""
    file = session.get(File, upload.file_id) if upload.file_id else None
    return file if file is not None and file.deleted_at is None else None


def part_limit(session: Session, upload: Upload) -> SizeLimit:
    """The most bytes that the next part may have. Raises AppError 409 if there are too many parts already."""
    count, held = session.execute(
        select(func.count(), func.coalesce(func.sum(UploadPart.bytes), 0)).where(UploadPart.upload_id == upload.id)
    ).one()
    if count >= MAX_PARTS:
        message = (
            f"Upload {upload.id} has {count:,} parts, the most there may be. Complete it, or cancel it and send larger "
            f"parts: up to {MAX_PART_BYTES:,} bytes."
        )
        raise AppError(409, "too_many_parts", message, extra={"allowed": ["complete", "cancel"]})
    room = max(COPIES * upload.bytes - int(held), 0)
    most, code, message = min(
        (MAX_PART_BYTES, "part_too_large", f"The part is larger than {MAX_PART_BYTES:,} bytes, the most for one."),
        (
            upload.bytes,
            "part_too_large",
            f"The part is larger than the {upload.bytes:,} bytes that upload {upload.id} was created with for all.",
        ),
        (
            room,
            "upload_full",
            f"The parts of upload {upload.id} have {int(held):,} bytes; with this one they would have more than "
            f"{COPIES} times the {upload.bytes:,} that it was created with. Complete it with the parts it needs "
            f"(GET /v1/uploads/{upload.id}/parts lists them), or cancel it.",
        ),
    )
    return SizeLimit(most, AppError(413, code, message, "data"))


def add_part(session: Session, caller: Caller, upload_id: str, blob: BlobRef) -> UploadPart:
    """Keep bytes that are stored already. Raises AppError 409 if the upload ended while they came, 413 if they are
    too many."""
    upload = get_pending(session, caller, upload_id, lock=True)
    limit = part_limit(session, upload)
    if blob.bytes > limit.bytes:
        raise limit.too_large
    part = UploadPart(id=new_id("part"), upload_id=upload.id, bytes=blob.bytes, sha256=blob.sha256, blob_id=blob.id)
    session.add(part)
    session.flush()
    return part


def page_of_parts(
    session: Session, caller: Caller, upload_id: str, *, after: str | None, limit: int
) -> tuple[list[UploadPart], bool]:
    """Parts in the order of their arrival, and whether there are more. An upload that has ended has none."""
    upload = get(session, caller, upload_id)
    query = select(UploadPart).where(UploadPart.upload_id == upload.id)
    if after is not None:
        cursor = session.scalar(select(UploadPart.seq).where(UploadPart.id == after, UploadPart.upload_id == upload.id))
        if cursor is None:
            raise not_found("part", after, "after")
        query = query.where(UploadPart.seq > cursor)
    rows = list(session.scalars(query.order_by(UploadPart.seq).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def cancel(session: Session, caller: Caller, upload_id: str) -> Upload:
    """End an upload and let go of its parts. Raises AppError 409 if it has ended in another way."""
    upload = get(session, caller, upload_id, lock=True)
    if upload.status != "cancelled":
        if status_of(upload) != "pending":
            raise ended(upload)
        end(session, upload, "cancelled")
    return upload


def end(session: Session, upload: Upload, status: str) -> None:
    """Give a pending upload its last status. Its parts go; bytes that no file has taken over are then collected."""
    upload.status, upload.ended_at = status, func.now()
    session.execute(delete(UploadPart).where(UploadPart.upload_id == upload.id))
    session.flush()


def expire_uploads(session: Session) -> list[str]:
    """Expire pending uploads that are past their time, and return their ids; forget those that ended long ago.

    One that is being completed is not past its time: `completion` pushes that on.
    """
    session.execute(delete(Upload).where(Upload.ended_at < func.now() - KEPT_FOR))
    expired = session.scalars(
        select(Upload)
        .where(Upload.status == "pending", Upload.expires_at <= func.now())
        .with_for_update(skip_locked=True)
        .limit(100)
    ).all()
    for upload in expired:
        end(session, upload, "expired")
    return [upload.id for upload in expired]
