"""Columns of a file that a preparation keeps beside the fields of its task."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "preparations",
        sa.Column("extras", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
    )


def downgrade() -> None:
    """Preparations with such columns keep them in their records, and nobody asks for them any more."""
    op.drop_column("preparations", "extras")
