"""All tables. Every time is the database's clock; every row of a client belongs to a project."""

import secrets
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    """Types and constraint names shared by all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads this class attribute)
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        Json: JSONB(none_as_null=True),
        list[str]: JSONB(none_as_null=True),
    }


def new_id(prefix: str) -> str:
    """A random id such as `file-3f0c…`: 120 bits, so that nobody guesses one."""
    return f"{prefix}-{secrets.token_hex(15)}"


def created() -> Mapped[datetime]:
    """A column with the time of insertion."""
    return mapped_column(server_default=func.now())


def sequence() -> Mapped[int]:
    """A column that orders rows by insertion, for cursor pages."""
    return mapped_column(Identity(always=True), unique=True)


class Project(Base):
    """A tenant. Nothing of one project is visible to another."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = created()


class ApiKey(Base):
    """A bearer key. Only its SHA-256 is kept: the key has 256 random bits, so a slow hash would add nothing."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = created()
    revoked_at: Mapped[datetime | None]


class Blob(Base):
    """Bytes of any length, in chunks. Incomplete until its writer finished; without a reference it is collected."""

    __tablename__ = "blobs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    bytes: Mapped[int | None]
    sha256: Mapped[str | None] = mapped_column(index=True)
    created_at: Mapped[datetime] = created()
    touched_at: Mapped[datetime] = created()


class BlobChunk(Base):
    """1 MiB of a blob. `data` is stored uncompressed out of line (the migration sets STORAGE EXTERNAL)."""

    __tablename__ = "blob_chunks"

    blob_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]


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
    """A file read as records of a task. `key` hashes all that the result depends on: equal work is done once."""

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
    task: Mapped[str]
    columns: Mapped[Json]
    model: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    report: Mapped[Json | None]
    error: Mapped[Json | None]
    blob_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("blobs.id"), index=True)
    created_at: Mapped[datetime] = created()
    finished_at: Mapped[datetime | None]


def used_preparation() -> Mapped[str | None]:
    """A column naming the preparation a job reads; deleting the file forgets it."""
    return mapped_column(ForeignKey("preparations.id", ondelete="SET NULL"), index=True)


JOB_STATUSES = ("validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled")
TERMINAL_STATUSES = ("succeeded", "failed", "cancelled")


class Job(Base):
    """A unit of work of any kind. State says what is; intent and ownership are columns of their own."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN {JOB_STATUSES}", name="status"),
        CheckConstraint("kind IN ('fine_tuning', 'preparation')", name="kind"),
        CheckConstraint("queue IN ('training', 'control')", name="queue"),
        CheckConstraint(
            "(status = 'running') = (lease_token IS NOT NULL) AND (lease_token IS NULL) = (lease_expires_at IS NULL)"
            " AND (lease_token IS NULL) = (lease_owner IS NULL)",
            name="running_is_leased",
        ),
        CheckConstraint(f"(status IN {TERMINAL_STATUSES}) = (finished_at IS NOT NULL)", name="ended_has_time"),
        CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="failed_has_error"),
        CheckConstraint("fine_tuned_model IS NULL OR status = 'succeeded'", name="model_when_succeeded"),
        CheckConstraint("kind <> 'preparation' OR preparation_id IS NOT NULL", name="preparation_is_named"),
        Index("ix_jobs_waiting", "queue", "seq", postgresql_where=text("status = 'queued'")),
        Index("ix_jobs_leases", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("ix_jobs_validating", "seq", postgresql_where=text("status = 'validating_files'")),
        Index("ix_jobs_of_project", "project_id", "kind", "seq"),
        Index("ix_jobs_metadata", "metadata", postgresql_using="gin"),
    )

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str]
    queue: Mapped[str]
    status: Mapped[str]

    spec: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    hyperparameters: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    model: Mapped[str | None]
    seed: Mapped[int | None]
    suffix: Mapped[str | None]
    metadata_: Mapped[Json] = mapped_column("metadata", server_default=text("'{}'"))
    training_file: Mapped[str | None] = mapped_column(ForeignKey("files.id"), index=True)
    validation_file: Mapped[str | None] = mapped_column(ForeignKey("files.id"), index=True)
    test_file: Mapped[str | None] = mapped_column(ForeignKey("files.id"), index=True)
    training_preparation: Mapped[str | None] = used_preparation()
    validation_preparation: Mapped[str | None] = used_preparation()
    test_preparation: Mapped[str | None] = used_preparation()
    preparation_id: Mapped[str | None] = mapped_column(ForeignKey("preparations.id", ondelete="CASCADE"), index=True)

    attempt: Mapped[int] = mapped_column(server_default="0")
    max_attempts: Mapped[int]
    run_after: Mapped[datetime | None]
    memory_retries: Mapped[int] = mapped_column(server_default="0")
    lease_token: Mapped[uuid.UUID | None]
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    pause_requested_at: Mapped[datetime | None]

    progress: Mapped[Json | None]
    estimated_finish: Mapped[datetime | None]
    metrics: Mapped[Json | None]
    trained_tokens: Mapped[int | None]
    error: Mapped[Json | None]
    fine_tuned_model: Mapped[str | None]
    result_files: Mapped[list[str]] = mapped_column(server_default=text("'[]'"))

    created_at: Mapped[datetime] = created()
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobEvent(Base):
    """One line of a job's history. `source` names what a worker sent, so that sending it twice stores it once."""

    __tablename__ = "job_events"
    __table_args__ = (
        UniqueConstraint("job_id", "source"),
        Index("ix_job_events_of_job", "job_id", "seq"),
    )

    seq: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    source: Mapped[str | None]


class JobMetric(Base):
    """One number measured at a step. A step trained again after a resume overwrites its own numbers."""

    __tablename__ = "job_metrics"
    __table_args__ = (UniqueConstraint("job_id", "split", "name", "step"),)

    seq: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str]
    split: Mapped[str]
    step: Mapped[int]
    epoch: Mapped[float]
    value: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Model(Base):
    """A base model, a fine-tuned model or a checkpoint. Base models belong to no project."""

    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint("kind IN ('base', 'fine_tuned', 'checkpoint')", name="kind"),
        CheckConstraint("(kind = 'base') = (project_id IS NULL)", name="base_is_shared"),
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
    problem: Mapped[str | None]
    created_at: Mapped[datetime] = created()
    deleted_at: Mapped[datetime | None]


class Checkpoint(Base):
    """A step of a job that can be gone on from. Its weights are the model `model_id`; the rest are its stored files."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[int]
    best: Mapped[bool]
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


class Worker(Base):
    """A worker process and when it was last heard of."""

    __tablename__ = "workers"
    __table_args__ = (CheckConstraint("kind IN ('training', 'control')", name="kind"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = created()
    seen_at: Mapped[datetime] = created()


class IdempotentRequest(Base):
    """A request that must not act twice, and its answer once there is one."""

    __tablename__ = "idempotent_requests"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    response: Mapped[Json | None]
    created_at: Mapped[datetime] = created()
