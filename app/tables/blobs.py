"""Bytes."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, created


class Blob(Base):
    """Bytes of any length, in chunks. Incomplete until its writer finished; without a reference it is collected."""

    __tablename__ = "blobs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    bytes: Mapped[int | None]
    sha256: Mapped[str | None] = mapped_column(index=True)
    created_at: Mapped[datetime] = created()
    touched_at: Mapped[datetime] = created()


class BlobSegment(Base):
    """A blob joined of others has no chunks: from `start` on, its bytes are those of another blob, whole."""

    __tablename__ = "blob_segments"

    blob_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bytes: Mapped[int]
    source_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("blobs.id"), index=True)


class BlobChunk(Base):
    """1 MiB of a blob. `data` is stored uncompressed out of line (the migration sets STORAGE EXTERNAL).

    No foreign key: a blob goes in an instant and its chunks behind it, some at a time, since deleting one takes as long
    as writing it. A chunk without a blob is refuse.
    """

    __tablename__ = "blob_chunks"

    blob_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]
