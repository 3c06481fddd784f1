"""Base models that projects register."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("status", sa.Text(), server_default="ready", nullable=False))
    op.add_column("models", sa.Column("source", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.execute("UPDATE models SET status = 'error' WHERE problem IS NOT NULL")
    op.drop_constraint("ck_models_base_is_shared", "models")
    op.create_check_constraint(
        op.f("ck_models_made_for_a_project"), "models", "kind = 'base' OR project_id IS NOT NULL"
    )
    op.create_check_constraint(op.f("ck_models_status"), "models", "status IN ('processing', 'ready', 'error')")
    op.create_check_constraint(
        op.f("ck_models_error_has_problem"), "models", "(status = 'error') = (problem IS NOT NULL)"
    )
    op.drop_constraint("ck_jobs_kind", "jobs")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", "kind IN ('fine_tuning', 'preparation', 'registration')")
    op.create_check_constraint(
        op.f("ck_jobs_registration_is_named"), "jobs", "kind <> 'registration' OR model IS NOT NULL"
    )


def downgrade() -> None:
    """Registered models go; jobs that started from one keep its name, as they do when one is deleted."""
    op.execute(
        "DELETE FROM stored_files WHERE owner_id IN (SELECT id FROM models WHERE kind = 'base' AND project_id IS NOT NULL"
        " UNION SELECT id FROM jobs WHERE kind = 'registration')"
    )
    op.execute("DELETE FROM jobs WHERE kind = 'registration'")
    op.execute("DELETE FROM models WHERE kind = 'base' AND project_id IS NOT NULL")
    op.drop_constraint("ck_jobs_registration_is_named", "jobs")
    op.drop_constraint("ck_jobs_kind", "jobs")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", "kind IN ('fine_tuning', 'preparation')")
    op.drop_constraint("ck_models_error_has_problem", "models")
    op.drop_constraint("ck_models_status", "models")
    op.drop_constraint("ck_models_made_for_a_project", "models")
    op.create_check_constraint(op.f("ck_models_base_is_shared"), "models", "(kind = 'base') = (project_id IS NULL)")
    op.drop_column("models", "source")
    op.drop_column("models", "status")
