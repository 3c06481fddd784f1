"""An upload becomes a file: checked (short), read for its hashes (in no transaction), published (short).

Nothing is claimed meanwhile. Whoever publishes first has done it: a second request finds the upload completed and
answers the same, and a cancel that comes in between wins. Parts are joined and not moved, so neither loses bytes.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import SessionFactory, transaction
from app.errors import AppError
from app.files import service, uploads
from app.files.service import NewFile
from app.projects import Caller
from app.settings import Settings
from app.storage.blobs import BlobRef, BlobStore
from app.tables import Upload, UploadPart

HELD_FOR = timedelta(minutes=2)  # an upload that is being completed expires so long after its last sign of life
HOLD_EVERY_S = 10.0
SHOWN_PARTS = 5


@dataclass(frozen=True)
class Completion:
    """What is asked for: the parts in their order, and the MD5 (lower-case hexadecimal) of their bytes, if known."""

    part_ids: list[str]
    md5: str | None = None


def begin(session: Session, caller: Caller, upload_id: str, wanted: Completion) -> list[BlobRef]:
    """The bytes of the parts in their order; none if the upload was completed just so before.

    Raises AppError 400 for parts that do not make the file, and 409 for an upload that has ended in another way. The
    upload stays as it is then, so that what is missing can be sent.
    """
    upload = uploads.get(session, caller, upload_id)
    if _is_answered(upload, wanted):
        return []
    if uploads.status_of(upload) != "pending":
        raise uploads.ended(upload)
    parts = _in_order(session, upload, wanted.part_ids)
    _hold(session, upload.id)
    return [BlobRef(part.blob_id, part.bytes, part.sha256) for part in parts]


def _is_answered(upload: Upload, wanted: Completion) -> bool:
    same = upload.part_ids == wanted.part_ids and wanted.md5 in (None, upload.md5)
    return upload.status == "completed" and same


def _in_order(session: Session, upload: Upload, part_ids: list[str]) -> list[UploadPart]:
    query = select(UploadPart).where(UploadPart.upload_id == upload.id).order_by(UploadPart.seq)
    found = {part.id: part for part in session.scalars(query)}
    left = dict(found)
    for index, part_id in enumerate(part_ids):
        param = f"part_ids[{index}]"
        if part_id not in found:
            message = f"{param} is {part_id!r}, which is no part of upload {upload.id}; {_known(upload)}."
            raise AppError(400, "part_not_found", message, param)
        if left.pop(part_id, None) is None:
            message = f"{param} is {part_id!r}, which stands in the list before; name each part once."
            raise AppError(400, "duplicate_part", message, param)
    size = sum(found[part_id].bytes for part_id in part_ids)
    if size != upload.bytes:
        message = (
            f"The named parts have {size:,} bytes together, but upload {upload.id} was created with "
            f"{upload.bytes:,}; {_unnamed(list(left.values())) or _known(upload)}."
        )
        extra = {"declared_bytes": upload.bytes, "named_bytes": size}
        raise AppError(400, "bytes_mismatch", message, "part_ids", extra)
    return [found[part_id] for part_id in part_ids]


def _known(upload: Upload) -> str:
    return f"GET /v1/uploads/{upload.id}/parts lists its parts"


def _unnamed(parts: list[UploadPart]) -> str:
    shown = [f"{part.id} ({part.bytes:,} bytes)" for part in parts[:SHOWN_PARTS]]
    more = [f"{len(parts) - SHOWN_PARTS:,} more"] if len(parts) > SHOWN_PARTS else []
    return f"not named were {', '.join(shown + more)}" if parts else ""


def _hold(session: Session, upload_id: str) -> bool:
    """Keep the upload from expiring for a while; False if it has ended."""
    held = update(Upload).where(Upload.id == upload_id, Upload.status == "pending").returning(Upload.id)
    until = func.greatest(Upload.expires_at, func.now() + HELD_FOR)
    return session.scalar(held.values(expires_at=until)) is not None


def assemble(
    sessions: SessionFactory, blobs: BlobStore, upload_id: str, parts: list[BlobRef], wanted: Completion
) -> BlobRef | None:
    """One blob of the parts; None if the upload ended meanwhile. Raises AppError 400 for another MD5 than is wanted.

    It reads every byte once, for the hashes of the whole, and writes none. A part that is the file has its hash.
    """
    if len(parts) == 1 and wanted.md5 is None:
        return parts[0]
    try:
        sha256 = _verify(sessions, blobs, upload_id, parts, wanted)
        return blobs.join(parts, sha256) if sha256 else None
    except LookupError:
        if _is_pending(sessions, upload_id):
            raise
        return None  # cancelled, and its parts are collected already


def _is_pending(sessions: SessionFactory, upload_id: str) -> bool:
    """Whether the upload is still there to be completed, which it then stays for a while."""
    with transaction(sessions) as session:
        return _hold(session, upload_id)


def _verify(
    sessions: SessionFactory, blobs: BlobStore, upload_id: str, parts: list[BlobRef], wanted: Completion
) -> str | None:
    """The SHA-256 of the parts together; None if the upload ended meanwhile."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    held_at = time.monotonic()
    for part in parts:
        for piece in blobs.read(part.id):
            sha256.update(piece)
            if wanted.md5 is not None:
                md5.update(piece)
        if time.monotonic() - held_at > HOLD_EVERY_S:
            if not _is_pending(sessions, upload_id):
                return None
            held_at = time.monotonic()
    if wanted.md5 not in (None, md5.hexdigest()):
        message = (
            f"The parts have MD5 {md5.hexdigest()}, not {wanted.md5}. Compare the SHA-256 of each (GET /v1/uploads/"
            f"{upload_id}/parts), send again what differs, and complete the upload with the parts that are right."
        )
        raise AppError(400, "md5_mismatch", message, "md5", {"md5": md5.hexdigest()})
    return sha256.hexdigest()


def publish(
    session: Session, caller: Caller, upload_id: str, wanted: Completion, blob: BlobRef | None, settings: Settings
) -> tuple[Upload, bool]:
    """The completed upload, and whether this made it and its file: the same request may have done so before.

    Raises AppError 409 if the upload ended otherwise.
    """
    upload = uploads.get(session, caller, upload_id, lock=True)
    if _is_answered(upload, wanted):
        return upload, False
    if upload.status != "pending":
        raise uploads.ended(upload)
    assert blob is not None, "an upload that did not end has its bytes"
    expires_after_s = upload.file_expires_after_s
    file = service.create(
        session,
        caller,
        NewFile(
            filename=upload.filename,
            purpose=upload.purpose,
            blob=blob,
            task=upload.task,
            columns=upload.columns,
            expires_after=timedelta(seconds=expires_after_s) if expires_after_s else None,
        ),
        settings,
    )
    upload.file_id, upload.part_ids, upload.md5 = file.id, wanted.part_ids, wanted.md5
    uploads.end(session, upload, "completed")
    return upload, True
