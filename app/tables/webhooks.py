"""Webhook endpoints, what is delivered to them, and every attempt."""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, created, sequence

DELIVERY_STATUSES = ("pending", "succeeded", "failed")


class WebhookEndpoint(Base):
    """A URL that hears of events. Its secret is stored as it is, since every delivery is signed with it."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint("status IN ('enabled', 'disabled')", name="status"),
        CheckConstraint(
            "(status = 'disabled') = (disabled_at IS NOT NULL)"
            " AND (status = 'disabled') = (disabled_reason IS NOT NULL)",
            name="disabled_has_reason",
        ),
        CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_expires_at IS NULL)", name="previous_secret_expires"
        ),
        CheckConstraint("(failures = 0) = (failing_since IS NULL)", name="failures_have_a_beginning"),
        Index("ix_webhook_endpoints_of_project", "project_id", "seq"),
    )

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]]
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_expires_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(server_default="enabled")
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    failures: Mapped[int] = mapped_column(server_default="0")
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = created()


class WebhookDelivery(Base):
    """One event for one endpoint: written with the change it tells of, sent later, kept as the log.

    `body` is the very text that is signed. A pending one is due at `next_attempt_at`; whoever sends it pushes that
    time and leaves a `lease_token`, so that nobody else sends it meanwhile and a dead sender's is taken over.
    `attempt` counts all attempts, `retry` those of the running round: a replay begins a new one.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        CheckConstraint(f"status IN {DELIVERY_STATUSES}", name="status"),
        CheckConstraint(
            "(status = 'pending') = (finished_at IS NULL) AND (status = 'pending') = (next_attempt_at IS NOT NULL)",
            name="pending_is_due",
        ),
        CheckConstraint("lease_token IS NULL OR status = 'pending'", name="leased_is_pending"),
        Index("ix_webhook_deliveries_of_endpoint", "endpoint_id", "seq"),
        Index(
            "ix_webhook_deliveries_due", "endpoint_id", "next_attempt_at", postgresql_where=text("status = 'pending'")
        ),
        Index("ix_webhook_deliveries_ended", "finished_at", postgresql_where=text("status <> 'pending'")),
    )

    seq: Mapped[int] = sequence()
    id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[str]
    event_type: Mapped[str]
    body: Mapped[str]
    test: Mapped[bool]
    status: Mapped[str] = mapped_column(server_default="pending")
    attempt: Mapped[int] = mapped_column(server_default="0")
    retry: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    lease_token: Mapped[uuid.UUID | None]
    created_at: Mapped[datetime] = created()
    finished_at: Mapped[datetime | None]


class WebhookAttempt(Base):
    """One try at a delivery. Without a duration it is under way, or its sender died before the answer came."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    duration_ms: Mapped[int | None]
    status_code: Mapped[int | None]
    error: Mapped[str | None]
    response: Mapped[str | None]
