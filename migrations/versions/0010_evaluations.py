"""Evaluations: jobs that score a model on a file."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KINDS = "'fine_tuning', 'preparation', 'registration'"


def upgrade() -> None:
    op.drop_constraint("ck_jobs_kind", "jobs")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", f"kind IN ({KINDS}, 'evaluation')")
    op.create_check_constraint(
        op.f("ck_jobs_evaluation_is_named"),
        "jobs",
        "kind <> 'evaluation' OR (model IS NOT NULL AND test_file IS NOT NULL AND seed IS NOT NULL)",
    )


def downgrade() -> None:
    """Evaluations go, and webhooks hear of them no more; the files that they made stay."""
    op.execute("DELETE FROM stored_files WHERE owner_id IN (SELECT id FROM jobs WHERE kind = 'evaluation')")
    op.execute("DELETE FROM jobs WHERE kind = 'evaluation'")
    op.execute("DELETE FROM webhook_deliveries WHERE event_type LIKE 'evaluation.%'")
    op.execute(
        "UPDATE webhook_endpoints SET event_types = event_types - 'evaluation.succeeded' - 'evaluation.failed'"
        " - 'evaluation.cancelled'"
    )
    op.drop_constraint("ck_jobs_evaluation_is_named", "jobs")
    op.drop_constraint("ck_jobs_kind", "jobs")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", f"kind IN ({KINDS})")
