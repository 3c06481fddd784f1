import os
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.db import transaction
from app.storage.blobs import CHUNK_BYTES, put, put_file
from app.storage.database import collect_orphans
from app.tables import Blob, BlobChunk, StoredFile


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
