"""What a backup brings back."""

import io
import os
import zipfile
from datetime import timedelta

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from app.backup.saving import save
from app.db import alembic_config, is_migrated, migrate_within, session_factory, transaction
from app.jobs import leases, service
from app.projects import authenticate, create_key
from app.storage.blobs import CHUNK_BYTES, put
from app.storage.database import DatabaseBlobStore
from app.tables import Base, File, IdempotentRequest, Job, JobEvent, JobInput, Model, StoredFile, Worker
from tests.backup.conftest import restored, with_manifest
from tests.jobs.conftest import GOOD, LEASE

REVISIONS = [script.revision for script in ScriptDirectory.from_config(alembic_config("")).walk_revisions()]
# What a restore changes on purpose: nobody works there any more.
CHANGED = {"workers", "jobs", "job_events"}


def rows(engine: Engine, table: str) -> list[str]:
    """The table's rows as PostgreSQL writes them."""
    with engine.connect() as connection:
        return sorted(connection.scalars(text(f'SELECT CAST(t AS text) FROM "{table}" AS t')))


def test_every_row_and_byte_comes_back(engine, sessions, blobs, caller, upload, queued_job, backed_up, new_database):
    job_id = queued_job(metadata={"quote": 'a "b" \\ \t \n ü 漢 \U0001f600', "empty": ""})
    upload(error={"code": "bad_row", "message": "line 3: no label", "param": None})
    data = os.urandom(3 * CHUNK_BYTES + 17)
    stored, empty = put(blobs, [data]), put(blobs, [])
    with transaction(sessions) as session:
        session.add(
            Model(id="ft:x", project_id=caller.project_id, kind="fine_tuned", bytes=3, metrics={"f1": 0.1 + 0.2})
        )
        session.add(StoredFile(owner_id="ft:x", path="a/b", bytes=len(data), sha256=stored.sha256, blob_id=stored.id))
        session.add(JobInput(job_id=job_id, key="adaptation.augmentation.operations.0.model", model_id="ft:x"))
        session.add(StoredFile(owner_id="ft:x", path="empty", bytes=0, sha256=empty.sha256, blob_id=empty.id))
        session.add(
            IdempotentRequest(project_id=caller.project_id, key="k", body_sha256="0", response={"n": [1, None]})
        )
    target = restored(backed_up(), new_database())
    filled = {table.name for table in Base.metadata.sorted_tables if rows(engine, table.name)}
    assert filled >= {"blobs", "blob_chunks", "files", "preparations", "jobs", "job_events", "models", "stored_files"}
    assert "job_inputs" in filled
    for table in Base.metadata.sorted_tables:
        assert rows(target, table.name) == rows(engine, table.name), table.name
    assert b"".join(DatabaseBlobStore(session_factory(target)).read(stored.id)) == data


def test_it_is_of_one_moment_while_others_write(sessions, api_key, blobs, backed_up, new_database):
    old = put(blobs, [b"before"])

    def meanwhile() -> None:
        with transaction(sessions) as session:
            create_key(session, project="later", name="later")
        new = put(blobs, [os.urandom(CHUNK_BYTES)])
        with transaction(sessions) as session:
            session.add(StoredFile(owner_id="later", path="p", bytes=1, sha256=new.sha256, blob_id=new.id))
            session.execute(text("DELETE FROM blobs WHERE id = :id"), {"id": old.id})

    target = restored(backed_up(during=meanwhile), new_database())
    assert len(rows(target, "projects")) == len(rows(target, "api_keys")) == 1
    assert rows(target, "stored_files") == []
    assert b"".join(DatabaseBlobStore(session_factory(target)).read(old.id)) == b"before"
    with transaction(session_factory(target)) as session:
        assert authenticate(session, api_key).project == "default"


def test_numbers_go_on_behind_those_that_were_used(sessions, upload, backed_up, new_database):
    upload(report=GOOD)
    gone = upload(report=GOOD)
    with transaction(sessions) as session:
        file = session.get(File, gone)
        used = file.seq
        for table in ("job_events", "jobs", "preparations", "files"):
            session.execute(text(f"DELETE FROM {table}"))
    target = restored(backed_up(), new_database())
    with target.begin() as connection:
        assert connection.scalar(text("SELECT nextval('files_seq_seq')")) == used + 1


def test_jobs_that_ran_are_queued_and_lose_no_attempt(sessions, queued_job, backed_up, new_database):
    job_id = queued_job()
    with transaction(sessions) as session:
        leases.claim(session, owner="lost", queues=["training"], lease=LEASE)
        session.add(Worker(id="lost", kind="training", host="h", pid=1))
    target = restored(backed_up(), new_database())
    with transaction(session_factory(target)) as session:
        job = session.get(Job, job_id)
        assert (job.status, job.attempt, job.lease_token, job.lease_owner) == ("queued", 0, None, None)
        last = session.query(JobEvent).filter(JobEvent.job_id == job_id).order_by(JobEvent.seq.desc()).first()
        assert last.message.startswith("Restored from the backup of ")
        assert last.level == "warn"
        assert session.query(Worker).all() == []
        again = leases.claim(session, owner="new", queues=["training"], lease=LEASE)
        assert (again.id, again.attempt) == (job_id, 1)
    with transaction(sessions) as session:
        assert session.get(Job, job_id).status == "running"


def test_the_time_from_backup_to_restore_is_not_counted_as_run(sessions, queued_job, backed_up, new_database):
    job_id = queued_job(time_limit_s=3600)
    with transaction(sessions) as session:
        leases.claim(session, owner="lost", queues=["training"], lease=LEASE)
        then = session.scalar(text("SELECT now() - interval '40 days'"))
        session.get(Job, job_id).claimed_at = then - timedelta(seconds=100)
    backup = with_manifest(backed_up(), lambda manifest: manifest.update(created_at=then.isoformat()))
    target = restored(backup, new_database())
    with transaction(session_factory(target)) as session:
        assert session.get(Job, job_id).run_seconds == pytest.approx(100, abs=60)


@pytest.mark.parametrize(("ask", "status"), [(service.cancel, "cancelled"), (service.pause, "paused")])
def test_what_a_client_had_asked_for_is_done(ask, status, sessions, caller, queued_job, backed_up, new_database):
    job_id = queued_job()
    with transaction(sessions) as session:
        leases.claim(session, owner="lost", queues=["training"], lease=LEASE)
        ask(session, caller, job_id)
    target = restored(backed_up(), new_database())
    with transaction(session_factory(target)) as session:
        assert session.get(Job, job_id).status == status


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_backup_of_every_schema_there_was_is_brought_up_to_date(revision, backed_up, new_database):
    source = new_database()
    with source.begin() as connection:
        migrate_within(connection, revision)
        connection.execute(text("INSERT INTO projects (id, name) VALUES ('proj-1', 'old')"))
        connection.execute(text("INSERT INTO blobs (id, bytes) VALUES ('00000000-0000-0000-0000-000000000001', 3)"))
        connection.execute(
            text("INSERT INTO blob_chunks VALUES ('00000000-0000-0000-0000-000000000001', 0, '\\x00ff80')")
        )
    target = restored(backed_up(source), new_database())
    with transaction(session_factory(target)) as session:
        assert is_migrated(session)
        assert session.scalar(text("SELECT name FROM projects")) == "old"
        assert bytes(session.scalar(text("SELECT data FROM blob_chunks"))) == b"\x00\xff\x80"


def test_the_parts_can_be_looked_at_with_any_zip_program(api_key, backed_up):
    with zipfile.ZipFile(backed_up()) as archive:
        assert archive.testzip() is None
        assert archive.read("tables/projects.copy").decode().split("\t")[1] == "default"


def test_it_can_be_written_to_a_pipe(engine, api_key, tmp_path, new_database):
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation("a pipe")

        tell = seek

    pipe = Pipe()
    save(engine, pipe, tmp_path / "api_key", lambda _total: lambda _moved: None)
    path = tmp_path / "piped.zip"
    path.write_bytes(pipe.getvalue())
    assert len(rows(restored(path, new_database()), "api_keys")) == 1


def test_triggers_come_back_as_they_were(api_key, backed_up, new_database):
    target = restored(backed_up(), new_database())
    with target.connect() as connection:
        assert inspect(connection).get_table_names()
        off = connection.scalar(text("SELECT count(*) FROM pg_trigger WHERE tgenabled <> 'O'"))
    assert off == 0
