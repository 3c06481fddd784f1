"""Registered models from archive to training job: real leases, real children, real bytes."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.files import service as files
from app.files.service import NewFile
from app.jobs import leases, registrations, service
from app.jobs.registrations import NewModel
from app.registry import models
from app.registry.models import PublishedFile
from app.storage.blobs import put
from app.tables import Blob, BlobChunk, Job, Model, StoredFile
from tests.model_files.archives import model_files, tar, zipped
from tests.worker.conftest import Bench
from worker.checkpoints import put_directory
from worker.context import WorkerContext
from worker.kinds import registration
from worker.tick import Rounds

ID = "@default/mine"


def register(bench: Bench, archive: bytes, filename: str = "mine.tar.gz", name: str = "mine") -> str:
    """Upload and register; the file is deleted at once, as a tidy client does."""
    blob = put(bench.context.blobs, [archive])
    with transaction(bench.context.sessions) as session:
        settings = bench.context.settings
        file = files.create(session, bench.caller, NewFile(filename, "user_data", blob), settings)
        model = registrations.create(session, bench.caller, NewModel(name, file.id), settings)
        files.delete(session, bench.caller, file.id)
        return model.id


def model(bench: Bench, id_: str = ID) -> Model | None:
    with transaction(bench.context.sessions) as session:
        return session.get(Model, id_)


def stored(bench: Bench, owner: str = ID) -> dict[str, str]:
    with transaction(bench.context.sessions) as session:
        return {file.path: file.sha256 for file in models.files(session, owner)}


def hashes(contents: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


@pytest.mark.parametrize("pack", [tar, zipped])
def test_an_archive_becomes_a_model_with_its_files(bench: Bench, pack):
    contents = model_files()
    register(bench, pack(contents | {"notes.csv": b"x"}))
    job = bench.run_next("control")
    assert job is not None
    assert (job.kind, job.status, job.error) == ("registration", "succeeded", None)
    found = model(bench)
    assert found is not None
    assert (found.status, found.family, found.max_length, found.problem) == ("ready", "bert", 48, None)
    assert found.bytes == sum(map(len, contents.values()))
    assert found.source is not None
    assert found.source["left_out"] == ["notes.csv"]
    assert stored(bench) == hashes(contents)
    assert stored(bench, job.id) == {}
    assert bench.messages(job.id)[-2:] == [f"Model {ID} is ready", "Model registered"]
    assert list(bench.context.settings.runs_dir.iterdir()) == []


def test_an_archive_that_must_not_be_leaves_its_reason_and_nothing_else(bench: Bench):
    register(bench, tar(model_files() | {"../evil.json": b"x", "pytorch_model.bin": b"x"}))
    job = bench.run_next("control")
    assert job is not None
    assert (job.status, job.attempt, job.error["code"]) == ("failed", 1, "path_traversal")
    found = model(bench)
    assert found is not None
    assert (found.status, found.bytes) == ("error", 0)
    assert "mine.tar.gz: '../evil.json' is a path that leaves the archive" in (found.problem or "")
    assert "'pytorch_model.bin' is a pickle" in (found.problem or "")
    assert (stored(bench), stored(bench, job.id)) == ({}, {})


def test_equal_bytes_are_stored_once(bench: Bench):
    def chunks() -> int:
        with transaction(bench.context.sessions) as session:
            weights = select(Blob.id).where(Blob.sha256 == hashes(model_files())["model.safetensors"])
            return session.scalars(select(func.count()).where(BlobChunk.blob_id.in_(weights))).one()

    for name in ("mine", "same"):
        register(bench, tar(model_files()), name=name)
        bench.run_next("control")
    assert stored(bench, "@default/same") == stored(bench)
    assert chunks() == 1


def test_a_bomb_meets_the_settings(bench: Bench):
    settings = bench.context.settings.model_copy(update={"max_decompressed_bytes": 1_000_000})
    context = replace(bench.context, settings=settings)
    register(bench, tar(model_files() | {"a.safetensors": bytes(2_000_000)}))
    job = bench.run_next("control", context)
    assert job is not None
    assert job.error["code"] == "decompression_bomb"
    assert "TAILOR_MAX_DECOMPRESSED_BYTES" in (model(bench).problem or "")


def test_a_check_that_takes_too_long_is_ended(bench: Bench):
    settings = bench.context.settings.model_copy(update={"preparation_timeout_s": 0.001})
    register(bench, tar(model_files()))
    job = bench.run_next("control", replace(bench.context, settings=settings))
    assert job is not None
    assert job.error["code"] == "preparation_timeout"
    assert model(bench).status == "error"


def test_a_worker_that_is_lost_leaves_the_registration_to_the_next(bench: Bench):
    """Its writes were blobs that nothing names: the model is `processing` until an attempt has all of it."""
    register(bench, tar(model_files()))
    lost = _claim(bench)
    assert (model(bench).status, stored(bench)) == ("processing", {})
    _expire(bench)
    assert bench.job(lost.id).status == "queued"
    bench.run_next("control")
    assert (model(bench).status, stored(bench)) == ("ready", hashes(model_files()))
    assert bench.job(lost.id).attempt == 2


def test_a_registration_whose_workers_are_all_lost_is_an_error_and_may_be_repeated(bench: Bench):
    register(bench, tar(model_files()))
    for _ in range(bench.context.settings.max_attempts):
        _claim(bench)
        _expire(bench)
    assert model(bench).status == "error"
    assert "was lost" in (model(bench).problem or "")
    register(bench, tar(model_files()))
    bench.run_next("control")
    assert model(bench).status == "ready"


def test_a_model_that_is_deleted_while_it_is_stored_is_not_published(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    register(bench, tar(model_files()))

    def store_and_be_deleted(context: WorkerContext, directory: Path, files: dict[str, int]) -> list[PublishedFile]:
        published = put_directory(context, directory, files)
        with transaction(context.sessions) as session:
            service.delete_model(session, bench.caller, ID)
        return published

    monkeypatch.setattr(registration, "put_directory", store_and_be_deleted)
    bench.run_next("control")
    assert model(bench) is None
    with transaction(bench.context.sessions) as session:
        assert session.scalars(select(StoredFile)).all() == []
        assert session.scalars(select(Job)).all() == []


def test_a_job_runs_on_a_registered_model_without_any_shared_disk(bench: Bench, base_models_dir: Path, prepared: str):
    """From an archive of the tiny encoder to a fine-tuned model, on a worker that has no base models of its own."""
    contents = {path.name: path.read_bytes() for path in (base_models_dir / "tiny").iterdir()}
    register(bench, tar({f"tiny/{name}": content for name, content in contents.items()}))
    bench.run_next("control")
    assert model(bench).family == "bert"
    elsewhere = replace(bench.context, settings=bench.context.settings.model_copy(update={"base_models_dir": None}))
    with transaction(bench.context.sessions) as session:
        new = service.NewJob(ID, prepared, hyperparameters=Hyperparameters(n_epochs=2, batch_size=4))
        job_id = service.create(session, bench.caller, new, bench.context.settings).id
    while bench.run_next("control", elsewhere):
        pass
    job = bench.run_next("training", elsewhere)
    assert job is not None
    assert (job.id, job.status, job.error) == (job_id, "succeeded", None)
    assert job.fine_tuned_model is not None
    assert job.fine_tuned_model.startswith(f"ft:{ID}:default::")
    made = model(bench, job.fine_tuned_model)
    assert made is not None
    assert (made.parent, made.family, made.max_length) == (ID, "bert", 48)


def _claim(bench: Bench) -> Job:
    with transaction(bench.context.sessions) as session:
        session.execute(update(Job).values(run_after=None))
        job = leases.claim(session, owner="lost", queues=["control"], lease=bench.context.lease)
    assert job is not None
    return job


def _expire(bench: Bench) -> None:
    """The lease runs out, and the control worker comes round."""
    with transaction(bench.context.sessions) as session:
        session.execute(
            update(Job).where(Job.status == "running").values(lease_expires_at=func.now() - bench.context.lease)
        )
    Rounds(bench.context).tick()
