"""What the control worker removes, what it keeps, and uses that come at the same moment."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from app.db import SessionFactory, transaction
from app.errors import AppError
from app.files import service as files
from app.jobs import leases, preparations, service
from app.jobs.events import Event
from app.jobs.service import NewJob
from app.registry import models
from app.settings import Settings
from app.storage.blobs import put
from app.tables import Blob, BlobChunk, Checkpoint, File, IdempotentRequest, Job, JobEvent, Model, StoredFile, Worker
from tests.jobs.conftest import GOOD, LEASE, queued_job, starter, upload
from tests.storage.test_collection import age, in_thread, wait_for_a_lock
from worker.cleaning import Cleaning
from worker.context import WorkerContext
from worker.process import Standby

__all__ = ["queued_job", "starter", "upload"]
DAYS = 30


@pytest.fixture
def context(settings: Settings, sessions: SessionFactory, blobs, tmp_path: Path) -> WorkerContext:
    """A control worker's, without training."""
    standby = Standby(enabled=False)
    return WorkerContext(settings, sessions, blobs, "control", threading.Event(), standby, lambda _: None)


@pytest.fixture
def clean(context: WorkerContext) -> Callable[[], None]:
    """Everything the control worker removes, at once."""
    return Cleaning(context, lambda: True).clean


@pytest.fixture
def job_with_checkpoint(sessions, caller, blobs, queued_job) -> Callable[..., tuple[str, str]]:
    """A job of some status with one checkpoint, that ended some days ago; the ids of the job and of the model."""

    def do(status: str = "succeeded", *, ended: float = DAYS + 1) -> tuple[str, str]:
        job_id = queued_job()
        weights, optimizer = (
            put(blobs, [b"weights of " + job_id.encode()]),
            put(blobs, [b"state of " + job_id.encode()]),
        )
        with transaction(sessions) as session:
            job = leases.claim(session, owner="w", queues=["training"], lease=LEASE)
            model_id = models.checkpoint_id(job.spec["fine_tuned_model"], 7)
            saved = [models.PublishedFile("model.safetensors", weights)]
            made = {"task": "text-classification", "size": 7, "metrics": {}}
            models.publish(session, models.made_by(session, job, model_id, "checkpoint", **made), saved)
            checkpoint = Checkpoint(
                id=f"ckpt-{job_id}", job_id=job_id, step=7, best=True, metrics={"step": 7}, model_id=model_id
            )
            session.add(checkpoint)
            session.flush()
            models.store_files(
                session,
                checkpoint.id,
                [
                    models.PublishedFile("model/model.safetensors", weights),
                    models.PublishedFile("optimizer", optimizer),
                ],
            )
            if status == "succeeded":
                final = job.spec["fine_tuned_model"]
                finished = leases.finish(session, job.lease_token, status, Event("done"), fine_tuned_model=final)
                model = models.made_by(session, finished, final, "fine_tuned", **made)
                models.publish(session, model, saved)
            elif status in ("failed", "cancelled"):
                error = {"code": "c", "message": "m", "param": None} if status == "failed" else None
                leases.finish(session, job.lease_token, status, Event("ended"), error=error)
            elif status == "queued":
                leases.release(session, job.lease_token, "drained")
            elif status == "paused":
                service.pause(session, caller, job_id)
                leases.release(session, job.lease_token, "paused")
        with transaction(sessions) as session:
            if session.get(Job, job_id).finished_at is not None:
                then = func.now() - timedelta(days=ended)
                session.execute(update(Job).where(Job.id == job_id).values(finished_at=then))
            assert session.get(Job, job_id).status == status
        return job_id, model_id

    return do


def is_there(sessions: SessionFactory, caller, model_id: str) -> bool:
    with transaction(sessions) as session:
        try:
            return [
                file.path for file in models.files(session, models.get(session, caller.project_id, model_id).id)
            ] == ["model.safetensors"]
        except AppError:
            return False


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_checkpoints_stay_for_the_setting_after_the_end_and_then_go(
    status, sessions, caller, blobs, job_with_checkpoint, clean
):
    job_id, old = job_with_checkpoint(status)
    recent_job, recent = job_with_checkpoint(status, ended=DAYS - 1)
    clean()
    assert (is_there(sessions, caller, old), is_there(sessions, caller, recent)) == (False, True)
    with transaction(sessions) as session:
        assert service.checkpoints(session, caller, job_id, after=None, limit=10) == ([], False)
        assert len(service.checkpoints(session, caller, recent_job, after=None, limit=10)[0]) == 1
        job = session.get(Job, job_id)
        owners = set(session.scalars(select(StoredFile.owner_id)))
    if status == "succeeded":
        assert is_there(sessions, caller, job.fine_tuned_model)
    assert not any(old in owner or owner == f"ckpt-{job_id}" for owner in owners)


def test_the_bytes_of_a_removed_checkpoint_go_and_those_it_shared_stay(
    sessions, caller, blobs, job_with_checkpoint, clean
):
    job_id, _ = job_with_checkpoint("succeeded")
    failed_id, _ = job_with_checkpoint("failed")
    clean()
    age(sessions)
    clean()
    with transaction(sessions) as session:
        chunks = [bytes(data) for data in session.scalars(select(BlobChunk.data))]
        final = session.get(Job, job_id).fine_tuned_model
        [file] = models.files(session, final)
    assert b"".join(blobs.read(file.blob_id)) == b"weights of " + job_id.encode()
    assert b"weights of " + job_id.encode() in chunks
    gone = {b"state of " + job_id.encode(), b"weights of " + failed_id.encode(), b"state of " + failed_id.encode()}
    assert gone.isdisjoint(chunks)


@pytest.mark.parametrize("status", ["queued", "running", "paused"])
def test_checkpoints_of_a_job_that_has_not_ended_stay_whatever_their_age(
    status, sessions, caller, job_with_checkpoint, context
):
    job_id, model_id = job_with_checkpoint(status)
    at_once = context.settings.model_copy(update={"checkpoint_retention_days": 0})
    with transaction(sessions) as session:
        session.execute(update(Checkpoint).values(created_at=func.now() - timedelta(days=1000)))
    Cleaning(WorkerContext(**vars(context) | {"settings": at_once}), lambda: True).clean()
    assert is_there(sessions, caller, model_id)
    with transaction(sessions) as session:
        assert len(models.files(session, f"ckpt-{job_id}")) == 2


def test_a_checkpoint_that_an_unfinished_job_starts_from_stays_until_that_has_ended(
    sessions, caller, settings, upload, job_with_checkpoint, clean
):
    _, model_id = job_with_checkpoint("failed")
    with transaction(sessions) as session:
        user = service.create(session, caller, NewJob(model_id, upload(report=GOOD)), settings).id
    clean()
    assert is_there(sessions, caller, model_id)
    with transaction(sessions) as session:
        service.cancel(session, caller, user)
    clean()
    assert not is_there(sessions, caller, model_id)


def test_a_checkpoint_that_a_job_is_being_created_on_stays(
    sessions, caller, settings, upload, job_with_checkpoint, clean
):
    _, model_id = job_with_checkpoint("failed")
    file = upload(report=GOOD)
    with sessions() as client:
        service.create(client, caller, NewJob(model_id, file), settings)
        clean()
        client.commit()
    clean()
    assert is_there(sessions, caller, model_id)


def test_who_creates_a_job_on_a_checkpoint_that_is_being_removed_is_told_so(
    sessions, caller, settings, upload, job_with_checkpoint
):
    from app.jobs.retention import remove_checkpoints

    _, model_id = job_with_checkpoint("failed")
    file = upload(report=GOOD)

    def create() -> None:
        with transaction(sessions) as session:
            service.create(session, caller, NewJob(model_id, file), settings)

    with sessions() as cleaner:
        assert remove_checkpoints(cleaner, timedelta(days=DAYS)) == [model_id]
        thread, results = in_thread(create)
        wait_for_a_lock(sessions)
        cleaner.commit()
    thread.join()
    [error] = results
    assert (error.status, error.code, error.param) == (400, "model_not_found", "model")
    assert f"Model {model_id!r} was removed on " in error.message


def test_many_checkpoints_in_use_do_not_keep_others_from_being_removed(
    sessions, caller, settings, upload, job_with_checkpoint, clean, monkeypatch
):
    monkeypatch.setattr("app.jobs.retention.REMOVED_AT_ONCE", 1)
    used, *free = [job_with_checkpoint("failed")[1] for _ in range(3)]
    with transaction(sessions) as session:
        service.create(session, caller, NewJob(used, upload(report=GOOD)), settings)
    clean()
    assert is_there(sessions, caller, used)
    assert not any(is_there(sessions, caller, model_id) for model_id in free)


@pytest.mark.parametrize(("status", "left"), [("succeeded", 0), ("failed", 2), ("cancelled", 2)])
def test_what_only_a_resume_needs_goes_as_soon_as_a_job_has_succeeded(
    status, left, sessions, caller, job_with_checkpoint, clean
):
    job_id, model_id = job_with_checkpoint(status, ended=0)
    clean()
    assert is_there(sessions, caller, model_id)
    with transaction(sessions) as session:
        assert len(models.files(session, f"ckpt-{job_id}")) == left
        assert len(service.checkpoints(session, caller, job_id, after=None, limit=10)[0]) == 1


def test_expired_files_go_with_what_was_read_from_them_but_not_under_an_unfinished_job(
    sessions, caller, settings, upload, clean, monkeypatch, starter
):
    monkeypatch.setattr("app.files.service.REMOVED_AT_ONCE", 1)
    used, unused, other = upload(report=GOOD), upload(report=GOOD), upload(report=GOOD)
    with transaction(sessions) as session:
        job_id = service.create(session, caller, NewJob(starter, used), settings).id
        for days, id_ in ((3, used), (2, unused), (1, other)):
            session.get(File, id_).expires_at = session.scalar(select(func.now() - timedelta(days=days)))
    clean()
    with transaction(sessions) as session:
        there = [id_ for id_ in (used, unused, other) if session.get(File, id_).deleted_at is None]
    assert there == [used]
    with transaction(sessions) as session:
        service.cancel(session, caller, job_id)
    clean()
    age(sessions)
    clean()
    with transaction(sessions) as session:
        assert session.get(File, used).deleted_at is not None
        assert session.scalar(select(func.count()).select_from(Blob)) == 0


def test_an_expired_file_that_a_job_is_being_created_on_stays(sessions, caller, settings, upload, clean, starter):
    file = upload(report=GOOD)
    with transaction(sessions) as session:
        session.get(File, file).expires_at = session.scalar(select(func.now() - timedelta(days=1)))
    with sessions() as client:
        service.create(client, caller, NewJob(starter, file), settings)
        clean()
        client.commit()
    clean()
    with transaction(sessions) as session:
        assert session.get(File, file).deleted_at is None


def test_jobs_that_prepared_a_file_go_a_week_later_and_their_result_stays(
    sessions, caller, settings, upload, clean, starter
):
    old, recent = upload(report=GOOD), upload(report=GOOD)
    waiting = upload()

    def preparing(session, file: str) -> list[str]:
        preparation = session.get(File, file).preparation_id
        return list(session.scalars(select(Job.id).where(Job.preparation_id == preparation)))

    with transaction(sessions) as session:
        [job] = preparing(session, old)
        session.execute(update(Job).where(Job.id == job).values(finished_at=func.now() - preparations.JOBS_KEPT_FOR))
    clean()
    with transaction(sessions) as session:
        assert preparing(session, old) == []
        assert session.scalar(select(func.count()).where(JobEvent.job_id == job)) == 0
        assert len(preparing(session, recent)) == len(preparing(session, waiting)) == 1
        assert files.report(session, caller, old).report == GOOD
        assert service.create(session, caller, NewJob(starter, old), settings).status == "queued"


def test_workers_and_idempotency_records_of_yesterday_go(sessions, caller, clean):
    with transaction(sessions) as session:
        yesterday = session.scalar(select(func.now() - timedelta(days=1, hours=1)))
        for id_, time in (("old", yesterday), ("new", func.now())):
            session.add(Worker(id=id_, kind="training", host="h", pid=1, seen_at=time))
            session.add(
                IdempotentRequest(project_id=caller.project_id, key=id_, body_sha256="0", response={}, created_at=time)
            )
    clean()
    with transaction(sessions) as session:
        assert list(session.scalars(select(Worker.id))) == ["new"]
        assert list(session.scalars(select(IdempotentRequest.key))) == ["new"]


def test_a_chore_that_fails_does_not_keep_the_others_from_being_done(sessions, blobs, clean, caplog):
    put(blobs, [b"orphan"])
    age(sessions)
    with transaction(sessions) as session:
        session.execute(text("ALTER TABLE idempotent_requests RENAME TO elsewhere"))
    try:
        clean()
    finally:
        with transaction(sessions) as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO idempotent_requests"))
    assert "not all idempotency records could be removed" in caplog.text
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(BlobChunk)) == 0


def test_a_worker_that_drains_removes_nothing_more(sessions, blobs, context, clean):
    put(blobs, [b"orphan"])
    age(sessions)
    context.draining.set()
    clean()
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(Blob)) == 1


def test_nothing_is_removed_until_everybody_is_back_from_an_outage_and_then_now_and_then(sessions, blobs, context):
    settled: list[bool] = []
    cleaning = Cleaning(context, lambda: bool(settled))

    def left() -> int:
        put(blobs, [b"orphan"])
        age(sessions)
        cleaning.clean_if_due()
        with transaction(sessions) as session:
            return session.scalar(select(func.count()).select_from(Blob))

    assert left() == 1
    settled.append(True)
    assert left() == 0
    assert left() == 1  # it was done a moment ago


def test_a_checkpoint_of_an_unfinished_job_cannot_be_deleted(sessions, caller, job_with_checkpoint):
    job_id, model_id = job_with_checkpoint("queued")
    with transaction(sessions) as session, pytest.raises(AppError, match=job_id) as caught:
        service.delete_model(session, caller, model_id)
    assert caught.value.status == 409
    assert is_there(sessions, caller, model_id)


def test_deleting_a_checkpoint_deletes_its_training_state_too(sessions, caller, job_with_checkpoint):
    job_id, model_id = job_with_checkpoint("failed")
    with transaction(sessions) as session:
        service.delete_model(session, caller, model_id)
    with transaction(sessions) as session:
        assert models.files(session, f"ckpt-{job_id}") == models.files(session, model_id) == []
        assert session.get(Model, model_id).deleted_at is not None
