"""A worker's disk is full, or its run directory is gone: the reason is typed, and nothing half-done is published."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from transformers import AutoModelForSequenceClassification

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.jobs import service
from app.tables import Blob, File, Job, Model, StoredFile
from benchmarks.job_history import problems_of
from tests.faults.overheard import overhearing
from tests.worker.conftest import Bench
from worker.checkpoints import restore
from worker.context import WorkerContext
from worker.process import Child
from worker.protocol import CHECKPOINTS, Event, Metrics, Result, Started, checkpoint_name

ASKED = Hyperparameters(n_epochs=10, batch_size=4, eval_interval=5)

# When it happens. After `Result` the child is done and its files are yet to be stored.
MOMENTS: dict[str, Callable[[Event], bool]] = {
    "before the first step": lambda said: isinstance(said, Started),
    "before a checkpoint": lambda said: isinstance(said, Metrics) and said.split == "train" and said.step == 12,
    "before the artifact": lambda said: isinstance(said, Metrics) and said.split == "test",
    "before the result is stored": lambda said: isinstance(said, Result),
}


@pytest.fixture
def on_small_disk(context: WorkerContext, small_disk: Path) -> WorkerContext:
    return replace(context, settings=context.settings.model_copy(update={"data_dir": small_disk}))


def fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def once(when: Callable[[Event], bool], what: Callable[[], None]) -> Callable[[Child, Event], None]:
    """Does it at the first event of the kind, while the child stands still and the supervisor has not heard of it."""
    done: list[Event] = []

    def hear(child: Child, said: Event) -> None:
        if when(said) and not done:
            done.append(said)
            with suppress(ProcessLookupError):  # it may have ended by now, after its last word
                os.kill(child.pid, signal.SIGSTOP)
            what()
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)

    return hear


def run(bench: Bench, context: WorkerContext) -> Job:
    with transaction(context.sessions) as session:  # a failed attempt is otherwise tried again some seconds later
        session.execute(update(Job).values(run_after=None))
    job = bench.run_next("training", context)
    assert job is not None
    return job


def create(bench: Bench, prepared: str, max_attempts: int) -> str:
    settings = bench.context.settings.model_copy(update={"max_attempts": max_attempts})
    bench.context = replace(bench.context, settings=settings)
    return bench.create(prepared, validation_file=prepared, test_file=prepared, hyperparameters=ASKED)


def remove_runs_of(bench: Bench, job_id: str) -> None:
    for path in bench.context.settings.runs_dir.glob(f"{job_id}-*"):
        while path.exists():  # a checkpoint that was just stored is being removed as well
            shutil.rmtree(path, ignore_errors=True)


def published(context: WorkerContext) -> list[str]:
    """Models and result files, and whatever bytes are named though they are incomplete."""
    with transaction(context.sessions) as session:
        made = select(Model.id).where(Model.kind == "fine_tuned")
        results = select(File.id).where(File.purpose == "fine-tune-results")
        incomplete = select(StoredFile.path).join(Blob, Blob.id == StoredFile.blob_id).where(Blob.sha256.is_(None))
        return [found for query in (made, results, incomplete) for found in session.scalars(query)]


@pytest.mark.parametrize("moment", ["before the first step", "before a checkpoint"])
def test_a_full_disk_is_named_and_once_there_is_space_the_job_goes_on(
    bench: Bench, prepared: str, on_small_disk: WorkerContext, small_disk: Path, moment: str
):
    job_id = create(bench, prepared, max_attempts=3)
    job = run(bench, overhearing(on_small_disk, once(MOMENTS[moment], lambda: fill(small_disk))))
    assert (job.status, published(bench.context)) == ("queued", [])
    assert "No space left for the run directory" in bench.messages(job_id)[-1]
    job = run(bench, on_small_disk)  # now there is not even space to set it up
    assert (job.status, published(bench.context)) == ("queued", [])
    assert "No space left for the run directory" in bench.messages(job_id)[-1]
    (small_disk / "filler").unlink()
    job = run(bench, on_small_disk)
    assert (job.status, job.error, job.attempt) == ("succeeded", None, 3)
    with transaction(bench.context.sessions) as session:
        assert problems_of(session, session.get_one(Job, job_id)) == []


def test_a_disk_that_stays_full_fails_the_job_with_its_code_and_keeps_its_checkpoints(
    bench: Bench, prepared: str, on_small_disk: WorkerContext, small_disk: Path, tmp_path: Path
):
    job_id = create(bench, prepared, max_attempts=1)
    moment = MOMENTS["before a checkpoint"]
    job = run(bench, overhearing(on_small_disk, once(moment, lambda: fill(small_disk))))
    assert (job.status, job.error["code"], job.fine_tuned_model) == ("failed", "disk_full", None)
    assert "No space left" in job.error["message"]
    assert published(bench.context) == []
    with transaction(bench.context.sessions) as session:
        kept, _ = service.checkpoints(session, bench.caller, job_id, after=None, limit=10)
    # How far a child gets before it stands still is up to the machine, so the events have to say what was stored.
    created = [int(step) for step in re.findall(r"Checkpoint created at step (\d+)", " ".join(bench.messages(job_id)))]
    assert created[-1] in {checkpoint.step for checkpoint in kept} <= set(created)
    newest = restore(bench.context, job, tmp_path)
    assert newest is not None
    assert newest == f"{CHECKPOINTS}/{checkpoint_name(created[-1])}"
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / newest / "model").config.num_labels == 2


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_directory_that_vanishes_is_named_and_the_next_attempt_goes_on(bench: Bench, prepared: str, moment: str):
    job_id = create(bench, prepared, max_attempts=2)

    job = run(bench, overhearing(bench.context, once(MOMENTS[moment], lambda: remove_runs_of(bench, job_id))))
    assert (job.status, published(bench.context)) == ("queued", [])
    assert "is gone from the worker's disk" in bench.messages(job_id)[-1]
    job = run(bench, bench.context)
    assert (job.status, job.error, job.attempt) == ("succeeded", None, 2)
    with transaction(bench.context.sessions) as session:
        assert problems_of(session, session.get_one(Job, job_id)) == []


def test_a_run_directory_that_always_vanishes_fails_the_job_with_its_code(bench: Bench, prepared: str):
    job_id = create(bench, prepared, max_attempts=1)

    job = run(
        bench, overhearing(bench.context, once(MOMENTS["before a checkpoint"], lambda: remove_runs_of(bench, job_id)))
    )
    assert (job.status, job.error["code"], job.fine_tuned_model) == ("failed", "run_directory_lost", None)
    assert published(bench.context) == []
