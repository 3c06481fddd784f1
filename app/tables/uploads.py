"""Uploads in parts, until they are files."""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, column_property, mapped_column

from app.tables.base import Base, Json, created, sequence

UPLOAD_STATUSES = ("pending", "completed", "cancelled", "expired")


class Upload(Base):
    """A file that arrives in parts. `part_ids` and `md5` are what it was completed with, so that asking twice is once.

    Between `expires_at` and the control worker's next round it is expired all the same: see `past_expiry`.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint(f"status IN {UPLOAD_STATUSES}", name="status"),
        CheckConstraint("(status = 'pending') = (ended_at IS NULL)", name="ended_has_time"),
        CheckConstraint("(status = 'completed') = (file_id IS NOT NULL)", name="completed_has_file"),
        Index("ix_uploads_pending", "expires_at", postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int]
    task: Mapped[str | None]
    columns: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    file_expires_after_s: Mapped[int | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), index=True)
    part_ids: Mapped[list[str] | None]
    md5: Mapped[str | None]
    created_at: Mapped[datetime] = created()
    expires_at: Mapped[datetime] = mapped_column()
    ended_at: Mapped[datetime | None]
    past_expiry: Mapped[bool] = column_property(expires_at <= func.now())


class UploadPart(Base):
    """Some bytes of an upload that has not ended. The order of parts is told when the upload is completed."""

    __tablename__ = "upload_parts"

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    bytes: Mapped[int]
    sha256: Mapped[str]
    blob_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("blobs.id"), index=True)
    created_at: Mapped[datetime] = created()
