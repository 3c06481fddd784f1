"""Let chunks outlive their blob for a while, so that they can be deleted some at a time."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("fk_blob_chunks_blob_id", "blob_chunks", type_="foreignkey")


def downgrade() -> None:
    op.execute("DELETE FROM blob_chunks WHERE NOT EXISTS (SELECT FROM blobs WHERE blobs.id = blob_chunks.blob_id)")
    op.create_foreign_key("fk_blob_chunks_blob_id", "blob_chunks", "blobs", ["blob_id"], ["id"], ondelete="CASCADE")
