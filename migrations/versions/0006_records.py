"""How a file is read: as a task that may be told from it, with the options that records depend on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("preparations", "task", nullable=True)
    op.add_column(
        "preparations",
        sa.Column("options", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("preparations", "options")
    op.execute("UPDATE preparations SET task = coalesce(report ->> 'task', 'text-classification') WHERE task IS NULL")
    op.alter_column("preparations", "task", nullable=False)
