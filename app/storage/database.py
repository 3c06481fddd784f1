"""Blobs as chunk rows in PostgreSQL: workers on any machine need no other shared storage."""

import hashlib
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Self, cast

import psycopg
from sqlalchemy import CursorResult, delete, exists, func, insert, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.db import SessionFactory, run_once, transaction
from app.storage.blobs import CHUNK_BYTES, BlobRef
from app.tables import Base, Blob, BlobChunk, BlobSegment

CHUNKS_PER_COPY = 8  # a transaction of 8 MiB: short, and past the point where commits cost anything
CHUNKS_PER_READ = 4
TOUCH_EVERY_S = 60.0
UNREFERENCED_FOR = timedelta(hours=1)  # longer than any gap between finishing a blob and naming it in a row
BLOBS_PER_COLLECTION = 1000
CHUNKS_PER_COLLECTION = 32  # a transaction of one or two seconds: PostgreSQL keeps a chunk in 525 pieces
# Rows that name a blob keep it, but for those that go with it.
NAMES = [
    key.parent
    for table in Base.metadata.sorted_tables
    for key in table.foreign_keys
    if key.column is Blob.__table__.c.id and key.ondelete != "CASCADE"
]


class DatabaseBlobWriter:
    """Writes chunks by binary COPY, some MiB a transaction, so that a slow client holds no transaction open."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions
        self._id = uuid.uuid4()
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._chunks = 0
        self._finished = False
        self._touched_at = time.monotonic()
        with transaction(sessions) as session:
            session.add(Blob(id=self._id))

    def write(self, data: bytes) -> None:
        """Append bytes; they reach the database CHUNKS_PER_COPY chunks at a time."""
        self._digest.update(data)
        self._bytes += len(data)
        self._buffer += data
        is_full = len(self._buffer) >= CHUNKS_PER_COPY * CHUNK_BYTES
        if is_full or time.monotonic() - self._touched_at > TOUCH_EVERY_S:
            with transaction(self._sessions) as session:
                self._flush(session, keep=len(self._buffer) % CHUNK_BYTES)
                self._touch(session)

    def finish(self) -> BlobRef:
        """Write what is left and mark the blob complete."""
        sha256 = self._digest.hexdigest()
        with transaction(self._sessions) as session:
            self._flush(session, keep=0)
            self._touch(session, bytes=self._bytes, sha256=sha256)
        self._finished = True
        return BlobRef(self._id, self._bytes, sha256)

    def _touch(self, session: Session, **values: Any) -> None:
        result = session.execute(update(Blob).where(Blob.id == self._id).values(touched_at=func.now(), **values))
        if cast(CursorResult[Any], result).rowcount == 0:
            raise LookupError(f"blob {self._id} was collected: for {UNREFERENCED_FOR} nothing was written to it")
        self._touched_at = time.monotonic()

    def _flush(self, session: Session, keep: int) -> None:
        end = len(self._buffer) - keep
        if end == 0:
            return
        connection = cast(psycopg.Connection, session.connection().connection.driver_connection)
        with (
            memoryview(self._buffer) as view,
            connection.cursor() as cursor,
            cursor.copy("COPY blob_chunks (blob_id, index, data) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["uuid", "int8", "bytea"])
            for start in range(0, end, CHUNK_BYTES):
                copy.write_row((self._id, self._chunks, bytes(view[start : min(start + CHUNK_BYTES, end)])))
                self._chunks += 1
        del self._buffer[:end]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            with transaction(self._sessions) as session:
                session.execute(delete(BlobChunk).where(BlobChunk.blob_id == self._id))
                session.execute(delete(Blob).where(Blob.id == self._id))


class DatabaseBlobStore:
    """The default blob store."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def writer(self) -> DatabaseBlobWriter:
        """A new blob."""
        return DatabaseBlobWriter(self._sessions)

    def read(self, blob_id: uuid.UUID, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `stop`. Each few chunks are a short query of their own, so a slow reader holds nothing."""
        with self._sessions() as session:
            size = session.scalar(select(Blob.bytes).where(Blob.id == blob_id))
            segments = session.scalars(
                select(BlobSegment).where(BlobSegment.blob_id == blob_id).order_by(BlobSegment.start)
            ).all()
        if size is None:
            raise LookupError(f"blob {blob_id} does not exist or is incomplete")
        stop = size if stop is None else min(stop, size)
        if not segments:
            yield from self._read_chunks(blob_id, start, stop)
        for segment in segments:
            begin, end = max(start - segment.start, 0), min(stop - segment.start, segment.bytes)
            if begin < end:
                yield from self.read(segment.source_id, begin, end)

    def _read_chunks(self, blob_id: uuid.UUID, start: int, stop: int) -> Iterator[bytes]:
        first, last = start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES
        for window in range(first, last + 1 if stop > start else first, CHUNKS_PER_READ):
            indexes = range(window, min(window + CHUNKS_PER_READ, last + 1))
            with self._sessions() as session:
                connection = cast(psycopg.Connection, session.connection().connection.driver_connection)
                rows = connection.execute(
                    "SELECT index, data FROM blob_chunks WHERE blob_id = %s AND index BETWEEN %s AND %s ORDER BY index",
                    (blob_id, indexes[0], indexes[-1]),
                    binary=True,
                ).fetchall()
            if len(rows) != len(indexes):
                raise LookupError(f"blob {blob_id} was deleted while it was read")
            for index, data in rows:
                offset = index * CHUNK_BYTES
                yield data[max(start - offset, 0) : stop - offset]

    def join(self, sources: Sequence[BlobRef], sha256: str) -> BlobRef:
        """One blob with the bytes of others: a row for each, and no byte is written again."""
        joined = uuid.uuid4()
        segments: list[dict[str, object]] = []
        size = 0
        for source in sources:
            segments.append({"blob_id": joined, "start": size, "bytes": source.bytes, "source_id": source.id})
            size += source.bytes
        ids = {source.id for source in sources}
        with transaction(self._sessions) as session:
            kept = session.scalars(select(Blob.id).where(Blob.id.in_(ids)).with_for_update(read=True, key_share=True))
            if gone := ids - set(kept):
                raise LookupError(f"{len(gone)} of the blobs to join are gone, such as {gone.pop()}")
            session.add(Blob(id=joined, bytes=size, sha256=sha256))
            session.flush()
            session.execute(insert(BlobSegment), segments)
        return BlobRef(joined, size, sha256)

    def find(self, sha256: str, size: int) -> BlobRef | None:
        """A complete blob with these bytes, touched so that it is not collected before it is named."""
        with transaction(self._sessions) as session:
            found = session.scalar(
                update(Blob)
                .where(
                    Blob.id
                    == select(Blob.id)
                    .where(Blob.sha256 == sha256, Blob.bytes == size)
                    .limit(1)
                    .with_for_update(key_share=True)
                    .scalar_subquery()
                )
                .values(touched_at=func.now())
                .returning(Blob.id)
            )
        return BlobRef(found, size, sha256) if found is not None else None


def collect_orphans(session: Session, unreferenced_for: timedelta = UNREFERENCED_FOR) -> int:
    """Delete some blobs that no row names and that nobody touched for a while, incomplete ones too; returns how many.

    Their chunks are left to `collect_chunks`. Nobody can find or name a blob while its row is locked here, so that one
    which is still without a name then has none.
    """
    old = Blob.touched_at < func.now() - unreferenced_for
    named = or_(*(exists().where(name == Blob.id) for name in NAMES))
    found = session.scalars(
        select(Blob.id).where(old, ~named).limit(BLOBS_PER_COLLECTION).with_for_update(skip_locked=True)
    ).all()
    result = session.execute(delete(Blob).where(Blob.id.in_(found), ~named).returning(Blob.id))
    return len(result.all())


def collect_chunks(session: Session) -> int:
    """Delete some chunks whose blob is gone; returns how many. Many large blobs are many short transactions."""
    found = (
        select(BlobChunk.blob_id, BlobChunk.index)
        .where(~exists().where(Blob.id == BlobChunk.blob_id))
        .limit(CHUNKS_PER_COLLECTION)
        .with_for_update(skip_locked=True)
    )
    key = tuple_(BlobChunk.blob_id, BlobChunk.index)
    return len(session.execute(delete(BlobChunk).where(key.in_(run_once(found))).returning(BlobChunk.index)).all())
