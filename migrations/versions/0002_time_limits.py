"""How long a job has run and may run."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("run_seconds", sa.Float(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("time_limit_s", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "time_limit_s")
    op.drop_column("jobs", "run_seconds")
    op.drop_column("jobs", "claimed_at")
