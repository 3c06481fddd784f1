"""The collector of blobs and chunks, and those it must not disturb."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from app.db import SessionFactory, transaction
from app.files import service as files
from app.files.service import NewFile
from app.storage import database
from app.storage.blobs import CHUNK_BYTES, BlobRef, put, put_file
from app.storage.database import DatabaseBlobStore, collect_chunks, collect_orphans
from app.tables import Blob, BlobChunk, StoredFile

DAY = timedelta(days=1)


def name(session, ref: BlobRef, owner: str = "m") -> None:
    session.add(StoredFile(owner_id=owner, path="p", bytes=ref.bytes, sha256=ref.sha256, blob_id=ref.id))
    session.flush()


def age(sessions: SessionFactory) -> None:
    """Make every blob one that nobody touched for a day."""
    with transaction(sessions) as session:
        session.execute(update(Blob).values(touched_at=func.now() - DAY))


def collect(sessions: SessionFactory) -> int:
    with transaction(sessions) as session:
        return collect_orphans(session)


def count(sessions: SessionFactory, table) -> int:
    with transaction(sessions) as session:
        return session.scalar(select(func.count()).select_from(table))


def content(blobs: DatabaseBlobStore, ref: BlobRef) -> bytes:
    return b"".join(blobs.read(ref.id))


def wait_for_a_lock(sessions: SessionFactory) -> None:
    """Return once a session waits for another's lock."""
    deadline = time.monotonic() + 60
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while True:
        with transaction(sessions) as session:
            if session.scalar(query):
                return
        assert time.monotonic() < deadline, "nobody waited for a lock"
        time.sleep(0.01)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list]:
    results: list = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_blobs_of_writers_that_died_go_and_those_of_living_ones_stay(sessions, blobs):
    dead, living = blobs.writer(), blobs.writer()
    dead.write(bytes(9 * CHUNK_BYTES))
    living.write(bytes(9 * CHUNK_BYTES))
    age(sessions)
    living.write(b"1" * (8 * CHUNK_BYTES))
    assert collect(sessions) == 1
    ref = living.finish()
    assert len(content(blobs, ref)) == 17 * CHUNK_BYTES
    with pytest.raises(LookupError, match="was collected"):
        dead.finish()


def test_a_slow_writer_shows_that_it_lives_before_its_buffer_is_full(sessions, blobs, monkeypatch):
    monkeypatch.setattr(database, "TOUCH_EVERY_S", 0.0)
    writer = blobs.writer()
    age(sessions)
    writer.write(b"a little")
    assert collect(sessions) == 0
    assert content(blobs, writer.finish()) == b"a little"


def test_a_writer_whose_blob_was_collected_leaves_nothing_behind(sessions, blobs):
    def stalled():
        yield bytes(9 * CHUNK_BYTES)
        age(sessions)
        assert collect(sessions) == 1
        yield bytes(9 * CHUNK_BYTES)

    with pytest.raises(LookupError, match="was collected"):
        put(blobs, stalled())
    assert (count(sessions, Blob), count(sessions, BlobChunk)) == (0, 0)


def test_files_records_and_models_keep_their_bytes(sessions, caller, blobs, settings):
    kept = put(blobs, [b"a file"])
    weights = put(blobs, [b"weights"])
    put(blobs, [b"nobody's"])
    with transaction(sessions) as session:
        file = files.create(session, caller, NewFile("f", "user_data", kept), settings)
        name(session, weights)
    age(sessions)
    assert collect(sessions) == 1
    assert (content(blobs, kept), content(blobs, weights)) == (b"a file", b"weights")
    with transaction(sessions) as session:
        files.delete(session, caller, file.id)
    assert collect(sessions) == 1
    assert content(blobs, weights) == b"weights"


def test_chunks_go_behind_their_blob_some_at_a_time(sessions, blobs, monkeypatch):
    monkeypatch.setattr(database, "CHUNKS_PER_COLLECTION", 4)
    kept = put(blobs, [b"k" * (3 * CHUNK_BYTES)])
    put(blobs, [bytes(10 * CHUNK_BYTES)])
    with transaction(sessions) as session:
        name(session, kept)
    age(sessions)
    assert collect(sessions) == 1
    removed: list[int] = []
    while not removed or removed[-1]:
        with transaction(sessions) as session:
            removed.append(collect_chunks(session))
    assert removed == [4, 4, 2, 0]
    assert len(content(blobs, kept)) == 3 * CHUNK_BYTES


def test_the_collector_takes_some_blobs_at_a_time(sessions, blobs, monkeypatch):
    monkeypatch.setattr(database, "BLOBS_PER_COLLECTION", 2)
    for number in range(5):
        put(blobs, [bytes([number])])
    age(sessions)
    assert [collect(sessions) for _ in range(4)] == [2, 2, 1, 0]


def test_two_collectors_at_once_share_the_work(sessions, blobs, monkeypatch):
    monkeypatch.setattr(database, "BLOBS_PER_COLLECTION", 2)
    monkeypatch.setattr(database, "CHUNKS_PER_COLLECTION", 2)
    for number in range(4):
        put(blobs, [bytes([number])])
    age(sessions)
    with transaction(sessions) as one, transaction(sessions) as other:
        assert collect_orphans(one) == collect_orphans(other) == 2
    with transaction(sessions) as one, transaction(sessions) as other:
        assert collect_chunks(one) == collect_chunks(other) == 2
    assert (count(sessions, Blob), count(sessions, BlobChunk)) == (0, 0)


def test_a_blob_that_is_being_named_while_the_collector_runs_survives(sessions, blobs):
    ref = put(blobs, [b"found"])
    age(sessions)
    with sessions() as namer:
        name(namer, ref)
        assert collect(sessions) == 0
        namer.commit()
    assert collect(sessions) == 0
    assert content(blobs, ref) == b"found"


def test_a_blob_that_is_being_found_while_the_collector_runs_survives(sessions, blobs):
    ref = put(blobs, [b"found"])
    age(sessions)
    with sessions() as finder:
        finder.execute(update(Blob).where(Blob.id == ref.id).values(touched_at=func.now()))  # as `find` does
        assert collect(sessions) == 0
        finder.commit()
    assert collect(sessions) == 0
    with transaction(sessions) as session:
        name(session, ref)
    assert content(blobs, ref) == b"found"


def test_who_looks_for_a_blob_that_is_being_collected_stores_the_bytes_anew(sessions, blobs, tmp_path):
    (tmp_path / "weights").write_bytes(b"weights" * 1000)
    old = put_file(blobs, tmp_path / "weights")
    age(sessions)
    with sessions() as collector:
        assert collect_orphans(collector) == 1
        thread, results = in_thread(lambda: put_file(blobs, tmp_path / "weights"))
        wait_for_a_lock(sessions)
        collector.commit()
    thread.join()
    [new] = results
    assert new.id != old.id
    with transaction(sessions) as session:
        name(session, new)
        while collect_chunks(session):
            pass
    assert content(blobs, new) == b"weights" * 1000


def test_a_collector_that_began_earlier_sees_a_name_that_was_given_since(sessions, blobs):
    ref = put(blobs, [b"late"])
    age(sessions)
    with sessions() as collector:
        assert collector.scalars(select(Blob.id)).all() == [ref.id]
        with transaction(sessions) as session:
            name(session, ref)
        assert collect_orphans(collector) == 0
    assert content(blobs, ref) == b"late"
