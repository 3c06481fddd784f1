"""A worker whose disk is full: a real file system that is too small. It takes root to mount one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.tables import Checkpoint, File, Job, Model
from worker.context import WorkerContext

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount a file system that is small enough"
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A megabyte: enough for a job's data and its first checkpoint, and not for the next ones beside it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def on(disk: Path, context: WorkerContext) -> WorkerContext:
    return replace(context, settings=context.settings.model_copy(update={"data_dir": disk}))


def test_a_full_disk_is_named_and_nothing_is_half_published(bench, prepared, context, small_disk):
    asked = Hyperparameters(n_epochs=1000, batch_size=4, eval_interval=5)
    job_id = bench.create(prepared, validation_file=prepared, hyperparameters=asked)
    with transaction(context.sessions) as session:
        session.execute(update(Job).values(max_attempts=2))

    first = bench.run_next("training", on(small_disk, context))
    assert (first.status, first.attempt) == ("queued", 1)
    assert "No space left" in bench.messages(job_id)[-1]
    with transaction(context.sessions) as session:
        session.execute(update(Job).values(run_after=None))

    second = bench.run_next("training", on(small_disk, context))
    assert (second.status, second.error["code"], second.fine_tuned_model) == ("failed", "disk_full", None)
    assert list((small_disk / "runs").iterdir()) == []
    with transaction(context.sessions) as session:
        assert session.scalar(select(func.count()).select_from(Model).where(Model.kind == "fine_tuned")) == 0
        assert session.scalars(select(File.id).where(File.purpose == "fine-tune-results")).all() == []
        kept = session.scalars(select(Checkpoint.step).order_by(Checkpoint.step)).all()
    assert all(step % 5 == 0 for step in kept)


def test_a_job_that_met_a_full_disk_goes_on_where_there_is_room(bench, prepared, context, small_disk):
    asked = Hyperparameters(n_epochs=20, batch_size=4, eval_interval=5)
    job_id = bench.create(prepared, validation_file=prepared, hyperparameters=asked)
    assert bench.run_next("training", on(small_disk, context)).status == "queued"
    with transaction(context.sessions) as session:
        session.execute(update(Job).values(run_after=None))
    assert bench.run_next("training").status == "succeeded"
    assert "The job has successfully completed" in bench.messages(job_id)
