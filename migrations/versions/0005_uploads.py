"""Uploads in parts, and blobs joined of others."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blob_segments",
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name=op.f("fk_blob_segments_blob_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source_id"], ["blobs.id"], name=op.f("fk_blob_segments_source_id")),
        sa.PrimaryKeyConstraint("blob_id", "start", name=op.f("pk_blob_segments")),
    )
    op.create_index(op.f("ix_blob_segments_source_id"), "blob_segments", ["source_id"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Text(), nullable=True),
        sa.Column("columns", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("file_expires_after_s", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("file_id", sa.Text(), nullable=True),
        sa.Column("part_ids", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("md5", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'completed') = (file_id IS NOT NULL)", name=op.f("ck_uploads_completed_has_file")
        ),
        sa.CheckConstraint("(status = 'pending') = (ended_at IS NULL)", name=op.f("ck_uploads_ended_has_time")),
        sa.CheckConstraint(
            "status IN ('pending', 'completed', 'cancelled', 'expired')", name=op.f("ck_uploads_status")
        ),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], name=op.f("fk_uploads_file_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_uploads_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_file_id"), "uploads", ["file_id"], unique=False)
    op.create_index(op.f("ix_uploads_project_id"), "uploads", ["project_id"], unique=False)
    op.create_index(
        "ix_uploads_pending", "uploads", ["expires_at"], unique=False, postgresql_where=sa.text("status = 'pending'")
    )
    op.create_table(
        "upload_parts",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name=op.f("fk_upload_parts_blob_id")),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_parts")),
        sa.UniqueConstraint("seq", name=op.f("uq_upload_parts_seq")),
    )
    op.create_index(op.f("ix_upload_parts_blob_id"), "upload_parts", ["blob_id"], unique=False)
    op.create_index(op.f("ix_upload_parts_upload_id"), "upload_parts", ["upload_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_upload_parts_upload_id"), table_name="upload_parts")
    op.drop_index(op.f("ix_upload_parts_blob_id"), table_name="upload_parts")
    op.drop_table("upload_parts")
    op.drop_index("ix_uploads_pending", table_name="uploads", postgresql_where=sa.text("status = 'pending'"))
    op.drop_index(op.f("ix_uploads_project_id"), table_name="uploads")
    op.drop_index(op.f("ix_uploads_file_id"), table_name="uploads")
    op.drop_table("uploads")
    op.drop_index(op.f("ix_blob_segments_source_id"), table_name="blob_segments")
    op.drop_table("blob_segments")
