"""Uploaded and produced files, and what was read from them."""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, Json, created, sequence


class File(Base):
    """An uploaded or produced file. A deleted one keeps its row, so that jobs still name it, and loses its bytes."""

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint("status IN ('uploaded', 'processed', 'error')", name="status"),
        CheckConstraint("deleted_at IS NOT NULL OR blob_id IS NOT NULL", name="has_bytes"),
    )

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    blob_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("blobs.id"), index=True)
    status: Mapped[str]
    status_details: Mapped[str | None]
    task: Mapped[str | None]
    columns: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    preparation_id: Mapped[str | None]
    created_at: Mapped[datetime] = created()
    expires_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class Preparation(Base):
    """A file read as records of a task. `key` hashes all that the result depends on: equal work is done once.

    Without a task, and without the option that names its variant, they are told from the file: the report says which.
    """

    __tablename__ = "preparations"
    __table_args__ = (
        UniqueConstraint("file_id", "key"),
        CheckConstraint("status IN ('pending', 'processed', 'error')", name="status"),
        CheckConstraint("(status = 'processed') = (blob_id IS NOT NULL)", name="processed_has_records"),
        CheckConstraint("(status = 'error') = (error IS NOT NULL)", name="error_is_named"),
    )

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"))
    key: Mapped[str] = mapped_column(index=True)
    task: Mapped[str | None]
    options: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    columns: Mapped[Json]
    extras: Mapped[list[str]] = mapped_column(server_default=text("'[]'"))
    model: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    report: Mapped[Json | None]
    error: Mapped[Json | None]
    blob_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("blobs.id"), index=True)
    created_at: Mapped[datetime] = created()
    finished_at: Mapped[datetime | None]
