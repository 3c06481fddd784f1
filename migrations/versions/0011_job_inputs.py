"""Files and models that a job needs besides, checkpoints that others need, and metrics of further stages."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

METRICS_KEY = ["job_id", "split", "name", "step"]


def upgrade() -> None:
    op.create_table(
        "job_inputs",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("file_id", sa.Text(), nullable=True),
        sa.Column("preparation_id", sa.Text(), nullable=True),
        sa.Column("model_id", sa.Text(), nullable=True),
        sa.CheckConstraint("(file_id IS NULL) <> (model_id IS NULL)", name=op.f("ck_job_inputs_file_or_model")),
        sa.CheckConstraint(
            "preparation_id IS NULL OR file_id IS NOT NULL", name=op.f("ck_job_inputs_files_are_prepared")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_inputs_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], name=op.f("fk_job_inputs_file_id")),
        sa.ForeignKeyConstraint(
            ["preparation_id"], ["preparations.id"], name=op.f("fk_job_inputs_preparation_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("job_id", "key", name=op.f("pk_job_inputs")),
        sa.UniqueConstraint("seq", name=op.f("uq_job_inputs_seq")),
    )
    for column in ("file_id", "preparation_id", "model_id"):
        op.create_index(op.f(f"ix_job_inputs_{column}"), "job_inputs", [column])
    op.add_column("checkpoints", sa.Column("pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("job_metrics", sa.Column("stage", sa.Text(), nullable=True))
    op.drop_constraint("uq_job_metrics_job_id_split_name_step", "job_metrics")
    op.create_unique_constraint(
        op.f("uq_job_metrics_job_id_stage_split_name_step"),
        "job_metrics",
        ["job_id", "stage", *METRICS_KEY[1:]],
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    """Jobs forget what else they read and those that wait for it cannot run; numbers of further stages go."""
    op.execute("DELETE FROM job_metrics WHERE stage IS NOT NULL")
    op.drop_constraint("uq_job_metrics_job_id_stage_split_name_step", "job_metrics")
    op.drop_column("job_metrics", "stage")
    op.create_unique_constraint(op.f("uq_job_metrics_job_id_split_name_step"), "job_metrics", METRICS_KEY)
    op.drop_column("checkpoints", "pinned")
    op.drop_table("job_inputs")
