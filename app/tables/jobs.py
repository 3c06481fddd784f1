"""Jobs, their history and numbers, and who works on them."""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.tables.base import Base, Json, created, sequence


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
        CheckConstraint("kind IN ('fine_tuning', 'preparation', 'registration', 'evaluation')", name="kind"),
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
        CheckConstraint("kind <> 'registration' OR model IS NOT NULL", name="registration_is_named"),
        CheckConstraint(
            "kind <> 'evaluation' OR (model IS NOT NULL AND test_file IS NOT NULL AND seed IS NOT NULL)",
            name="evaluation_is_named",
        ),
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
    claimed_at: Mapped[datetime | None]
    run_seconds: Mapped[float] = mapped_column(server_default="0")
    time_limit_s: Mapped[int | None]

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

    inputs: Mapped[list["JobInput"]] = relationship(order_by="JobInput.seq", passive_deletes=True)


class JobInput(Base):
    """A file or a model that a job needs beside its own three files and its base model.

    `key` is where the job names it: `target_files.0`, `adaptation.continued_pretraining.files.0`. A file has no
    preparation until it is known how it is to be read, nor once it was deleted.
    """

    __tablename__ = "job_inputs"
    __table_args__ = (
        CheckConstraint("(file_id IS NULL) <> (model_id IS NULL)", name="file_or_model"),
        CheckConstraint("preparation_id IS NULL OR file_id IS NOT NULL", name="files_are_prepared"),
    )

    seq: Mapped[int] = sequence()
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id"), index=True)
    preparation_id: Mapped[str | None] = used_preparation()
    model_id: Mapped[str | None] = mapped_column(index=True)


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
    """One number measured at a step. A step trained again after a resume overwrites its own numbers.

    `stage` is null in the training of the job's task. Where one stage ends at a step, the next begins.
    """

    __tablename__ = "job_metrics"
    __table_args__ = (UniqueConstraint("job_id", "stage", "split", "name", "step", postgresql_nulls_not_distinct=True),)

    seq: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    stage: Mapped[str | None]
    name: Mapped[str]
    split: Mapped[str]
    step: Mapped[int]
    epoch: Mapped[float]
    value: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


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
