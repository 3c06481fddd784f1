"""Models, checkpoints and their stored files."""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, Json, created, sequence

MODEL_STATUSES = ("processing", "ready", "error")


class Model(Base):
    """A base model, a fine-tuned model or a checkpoint. Base models on the workers' disks belong to no project.

    One that a project has registered is `processing` until its archive has been checked; `source` says where it came
    from.
    """

    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint("kind IN ('base', 'fine_tuned', 'checkpoint')", name="kind"),
        CheckConstraint("kind = 'base' OR project_id IS NOT NULL", name="made_for_a_project"),
        CheckConstraint(f"status IN {MODEL_STATUSES}", name="status"),
        CheckConstraint("(status = 'error') = (problem IS NOT NULL)", name="error_has_problem"),
    )

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"), index=True)
    kind: Mapped[str]
    family: Mapped[str | None]
    task: Mapped[str | None]
    labels: Mapped[list[str] | None]
    parent: Mapped[str | None]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    metrics: Mapped[Json | None]
    bytes: Mapped[int]
    max_length: Mapped[int | None]
    status: Mapped[str] = mapped_column(server_default="ready")
    problem: Mapped[str | None]
    source: Mapped[Json | None]
    created_at: Mapped[datetime] = created()
    deleted_at: Mapped[datetime | None]


class Checkpoint(Base):
    """A step of a job that can be gone on from. Its weights are the model `model_id`; the rest are its stored files.

    A pinned one is needed by those that follow it, and stays as long as the job may go on.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[int]
    best: Mapped[bool]
    pinned: Mapped[bool] = mapped_column(server_default=text("false"))
    metrics: Mapped[Json]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    created_at: Mapped[datetime] = created()


class StoredFile(Base):
    """A file of a model or a checkpoint (`owner_id`): relative path, size, hash, bytes."""

    __tablename__ = "stored_files"

    owner_id: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int]
    sha256: Mapped[str]
    blob_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("blobs.id"), index=True)
