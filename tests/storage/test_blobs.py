import hashlib
import os
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.db import transaction
from app.storage.blobs import CHUNK_BYTES, BlobRef, put, put_file
from app.storage.database import collect_chunks, collect_orphans
from app.tables import Blob, BlobChunk, BlobSegment, StoredFile


def count(sessions, table):
    with transaction(sessions) as session:
        return session.scalar(select(func.count()).select_from(table))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * CHUNK_BYTES + 7])
def test_what_goes_in_comes_out(blobs, size):
    data = os.urandom(size)
    ref = put(blobs, (data[start : start + 70_001] for start in range(0, size, 70_001)))
    assert ref.bytes == size
    assert b"".join(blobs.read(ref.id)) == data


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 1),
        (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (5, 5),
        (3 * CHUNK_BYTES, None),
        (0, 10**12),
        (CHUNK_BYTES, CHUNK_BYTES),
    ],
)
def test_any_range_can_be_read(blobs, start, stop):
    data = os.urandom(5 * CHUNK_BYTES + 11)
    ref = put(blobs, [data])
    assert b"".join(blobs.read(ref.id, start, stop)) == data[start:stop]


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, None), (0, 1), (6, 8), (7, 7), (7, CHUNK_BYTES + 12), (CHUNK_BYTES + 9, None), (0, 10**12), (10**12, None)],
)
def test_joined_blobs_are_read_as_one(blobs, start, stop):
    pieces = [os.urandom(size) for size in (7, CHUNK_BYTES + 3, 1, 2 * CHUNK_BYTES)]
    whole = b"".join(pieces)
    inner = blobs.join([put(blobs, [piece]) for piece in pieces[:3]], "sha256")
    outer = blobs.join([inner, put(blobs, pieces[3:])], hashlib.sha256(whole).hexdigest())
    assert (inner.bytes, outer.bytes) == (len(whole) - len(pieces[3]), len(whole))
    assert b"".join(blobs.read(outer.id, start, stop)) == whole[start:stop]


def test_joining_writes_no_bytes(sessions, blobs):
    parts = [put(blobs, [b"a" * 10]), put(blobs, [b"b" * 10])]
    blobs.join([*parts, parts[0]], "sha256")
    assert count(sessions, BlobChunk) == 2


def test_a_blob_that_is_gone_cannot_be_joined(sessions, blobs):
    kept, gone = put(blobs, [b"kept"]), BlobRef(uuid.uuid4(), 4, "sha256")
    with pytest.raises(LookupError, match=str(gone.id)):
        blobs.join([kept, gone], "sha256")
    assert count(sessions, Blob) == 1


def test_what_a_blob_is_joined_of_is_kept_as_long_as_the_blob(sessions, blobs):
    parts = [put(blobs, [b"one"]), put(blobs, [b"two"])]
    joined = blobs.join(parts, "sha256")
    with transaction(sessions) as session:
        session.add(StoredFile(owner_id="m", path="p", bytes=6, sha256="sha256", blob_id=joined.id))
    with transaction(sessions) as session:
        assert collect_orphans(session, timedelta(0)) == 0
        session.query(StoredFile).delete()
    with transaction(sessions) as session:
        assert collect_orphans(session, timedelta(0)) == 1
    with transaction(sessions) as session:
        assert collect_orphans(session, timedelta(0)) == 2
        assert collect_chunks(session) == 2
    assert (count(sessions, Blob), count(sessions, BlobChunk), count(sessions, BlobSegment)) == (0, 0, 0)


def test_a_writer_that_fails_leaves_nothing_behind(sessions, blobs):
    def broken():
        yield bytes(9 * CHUNK_BYTES)
        raise ConnectionError("client gone")

    with pytest.raises(ConnectionError):
        put(blobs, broken())
    assert (count(sessions, Blob), count(sessions, BlobChunk)) == (0, 0)


def test_equal_files_share_one_blob(sessions, blobs, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"weights" * 1000)
    assert put_file(blobs, tmp_path / "a").id == put_file(blobs, tmp_path / "b").id
    assert count(sessions, Blob) == 1


def test_reading_a_blob_that_is_gone_says_so(blobs):
    with pytest.raises(LookupError, match="does not exist"):
        next(blobs.read(uuid.uuid4()))


def test_only_old_blobs_that_no_row_names_are_collected(sessions, blobs):
    named, orphan = put(blobs, [b"named"]), put(blobs, [b"orphan"])
    with transaction(sessions) as session:
        session.add(StoredFile(owner_id="m", path="p", bytes=5, sha256=named.sha256, blob_id=named.id))
    with transaction(sessions) as session:
        assert collect_orphans(session) == 0
        assert collect_orphans(session, timedelta(0)) == 1
    assert b"".join(blobs.read(named.id)) == b"named"
    with pytest.raises(LookupError):
        next(blobs.read(orphan.id))
