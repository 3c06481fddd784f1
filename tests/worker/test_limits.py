"""What may stop a running job besides its client: time, silence, memory, disk; and what a pause does to it."""

import json
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.jobs import leases, service
from app.tables import Checkpoint, Job, Model, StoredFile
from tests.worker.conftest import Bench
from tests.worker.forked import Forking
from worker.context import WorkerContext
from worker.memory import oom_kills
from worker.process import Standby

LONG = Hyperparameters(n_epochs=1000, batch_size=4, eval_interval=100_000)
MIB = 1024 * 1024


def with_settings(context: WorkerContext, **changes) -> WorkerContext:
    return replace(context, settings=context.settings.model_copy(update=changes))


def ask(bench: Bench, what: str, job_id: str) -> Job:
    with transaction(bench.context.sessions) as session:
        return getattr(service, what)(session, bench.caller, job_id)


def weights(bench: Bench, job_id: str) -> str:
    with transaction(bench.context.sessions) as session:
        model = bench.job(job_id).fine_tuned_model
        return session.scalars(
            select(StoredFile.sha256).where(StoredFile.owner_id == model, StoredFile.path == "model.safetensors")
        ).one()


def trainers(context: WorkerContext) -> list[int]:
    """Process ids of living children that have a job."""
    assert isinstance(context.standby, Forking)
    return context.standby.pids


def test_a_paused_job_holds_no_worker_and_comes_to_the_same_weights(bench, prepared, context):
    asked = Hyperparameters(n_epochs=60, batch_size=4, eval_interval=40)
    same = {"validation_file": prepared, "hyperparameters": asked, "seed": 5}
    uninterrupted = bench.create(prepared, **same)
    bench.run_next("training")
    job_id = bench.create(prepared, **same)
    thread = bench.in_thread("training")
    bench.wait_for_step(job_id, 1)
    assert ask(bench, "pause", job_id).status == "running"
    thread.join()
    paused = bench.job(job_id)
    assert (paused.status, paused.attempt, paused.lease_owner, paused.estimated_finish) == ("paused", 0, None, None)
    assert paused.run_seconds > 0
    assert bench.run_next("training") is None
    assert trainers(context) == []

    assert ask(bench, "resume", job_id).status == "queued"
    other = replace(context, owner="another", settings=context.settings.model_copy(update={"data_dir": Path("/tmp")}))
    done = bench.run_next("training", other)

    assert (done.status, done.attempt, done.pause_requested_at) == ("succeeded", 1, None)
    assert done.run_seconds > paused.run_seconds
    assert weights(bench, job_id) == weights(bench, uninterrupted)
    told = bench.messages(job_id)
    assert "Pause requested; a running job writes a checkpoint first" in told
    assert any("resumed from step" in message for message in told)
    assert "Job started again (attempt 1 of 3)" in told


def test_a_paused_job_that_is_cancelled_ends_at_once(bench, prepared):
    job_id = bench.create(prepared, hyperparameters=LONG)
    assert ask(bench, "pause", job_id).status == "paused"
    assert ask(bench, "cancel", job_id).status == "cancelled"


def test_a_job_at_its_time_limit_fails_and_keeps_its_last_checkpoint(bench, prepared, context):
    job_id = bench.create(prepared, hyperparameters=LONG, time_limit_s=3600)
    thread = bench.in_thread("training")
    bench.wait_for_step(job_id, 1)
    context.draining.set()
    thread.join()
    context.draining.clear()
    with transaction(context.sessions) as session:
        session.execute(update(Job).where(Job.id == job_id).values(run_seconds=3600))

    job = bench.run_next("training")

    assert (job.status, job.error["code"], job.error["param"]) == ("failed", "time_limit_reached", "time_limit_s")
    with transaction(context.sessions) as session:
        point = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id)).one()
        assert session.get(Model, point.model_id) is not None


def test_a_job_within_its_time_limit_is_left_alone(bench, prepared):
    bench.create(prepared, hyperparameters=Hyperparameters(n_epochs=1), time_limit_s=3600)
    assert bench.run_next("training").status == "succeeded"


def test_a_child_that_hangs_is_killed_and_its_job_goes_on_elsewhere(bench, prepared, context):
    impatient = with_settings(context, hang_timeout_s=3, cancel_grace_s=0.5)
    job_id = bench.create(prepared, hyperparameters=LONG)
    thread = bench.in_thread("training", impatient)
    bench.wait(lambda: trainers(context))
    for pid in trainers(context):
        os.kill(pid, signal.SIGSTOP)
    thread.join()
    job = bench.job(job_id)
    assert (job.status, job.attempt, trainers(context)) == ("queued", 1, [])
    assert "made no progress for 3 s (TAILOR_HANG_TIMEOUT_S)" in bench.messages(job_id)[-1]


def test_a_hung_child_tells_where_it_was(bench, prepared, context, monkeypatch):
    """It waits for ever in Python code of ours; SIGUSR1 has its stacks written before it is killed."""
    (context.settings.data_dir / "hang").mkdir(parents=True)
    (context.settings.data_dir / "hang" / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "class Hang:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'worker.training.warmup':\n"
        "            threading.Event().wait()\n"
        "sys.meta_path.insert(0, Hang())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(context.settings.data_dir / "hang"), prepend=os.pathsep)
    impatient = replace(
        with_settings(context, hang_timeout_s=8, cancel_grace_s=0.5),
        standby=Standby(enabled=False),
    )
    job_id = bench.create(prepared, hyperparameters=LONG)
    thread = bench.in_thread("training", impatient)
    thread.join()
    with transaction(context.sessions) as session:
        last = service.events.page(session, job_id, after=None, limit=1)[0][0]
    assert "made no progress" in last.message
    assert "sitecustomize.py" in last.data["stderr"]


@pytest.fixture
def many_rows(bench: Bench) -> str:
    """A file whose batches of four thousand windows take over 1500 MiB in the tiny encoder."""
    generator = random.Random(3)
    texts = [" ".join(generator.choices(["film", "again", "loud", "warm"], k=60)) for _ in range(2048)]
    rows = [{"text": text, "label": f"l{number % 2}"} for number, text in enumerate(texts)]
    return bench.upload("".join(json.dumps(row) + "\n" for row in rows))


def test_a_job_without_enough_memory_is_tried_once_more_with_half_the_batch(bench, context, many_rows):
    asked = Hyperparameters(n_epochs=1, batch_size=4096, precision="fp32")
    job_id = bench.create(many_rows, hyperparameters=asked)

    first = bench.run_next("training", with_settings(context, job_memory_bytes=700 * MIB))
    assert (first.status, first.memory_retries) == ("queued", 1), first.error
    assert (first.hyperparameters["batch_size"], first.hyperparameters["gradient_accumulation_steps"]) == (2048, 2)
    assert bench.messages(job_id)[-1].startswith("Out of memory with batch size 4096; tried again with batch size 2048")

    # Without the limit: how much half a batch takes varies by hundreds of MiB with how the heap is cut up.
    second = bench.run_next("training", context)
    assert (second.status, second.attempt) == ("succeeded", 2), second.error


def test_an_odd_batch_is_cut_evenly_and_a_second_want_of_memory_fails_the_job(bench, context, many_rows):
    bench.create(many_rows, hyperparameters=Hyperparameters(n_epochs=1, batch_size=1023, precision="fp32"))
    tiny = with_settings(context, job_memory_bytes=120 * MIB)

    first = bench.run_next("training", tiny)
    assert (first.hyperparameters["batch_size"], first.hyperparameters["gradient_accumulation_steps"]) == (341, 3)
    second = bench.run_next("training", tiny)
    assert (second.status, second.error["code"]) == ("failed", "out_of_memory")


def test_a_run_directory_that_is_removed_is_named_and_the_job_tried_again(bench, prepared, context):
    job_id = bench.create(prepared, hyperparameters=LONG.model_copy(update={"eval_interval": 20}))
    thread = bench.in_thread("training")
    bench.wait_for_step(job_id, 1)
    (run_dir,) = context.settings.runs_dir.glob(f"{job_id}-*")
    run_dir.rename(run_dir.with_name("elsewhere"))
    thread.join()
    shutil.rmtree(run_dir.with_name("elsewhere"))
    job = bench.job(job_id)
    assert (job.status, job.attempt) == ("queued", 1)
    assert f"The run directory {run_dir.name} is gone" in bench.messages(job_id)[-1]
    with transaction(context.sessions) as session:
        assert session.scalar(select(func.count()).select_from(Model).where(Model.kind == "fine_tuned")) == 0


def test_kills_for_want_of_memory_are_counted_where_the_kernel_counts_them(tmp_path):
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 3\n")
    (tmp_path / "cgroup").write_text("4:memory:/jobs/a\n1:cpu:/\n0::/slice/b\n")
    for path, text in (
        ("slice/b/memory.events", "oom 4\noom_kill 2\n"),
        ("memory/jobs/a/memory.oom_control", "oom_kill 1\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    assert oom_kills(tmp_path / "vmstat", tmp_path / "cgroup", tmp_path) == 6
    assert oom_kills(tmp_path / "no", tmp_path / "none", tmp_path) == 0
    assert oom_kills() >= 0


def test_a_lost_worker_of_a_job_that_is_to_pause_leaves_it_paused(bench, prepared, context):
    job_id = bench.create(prepared, hyperparameters=LONG)
    with transaction(context.sessions) as session:
        leases.claim(session, owner="gone", queues=["training"], lease=-context.lease)
    ask(bench, "pause", job_id)
    with transaction(context.sessions) as session:
        leases.reap(session)
    assert bench.job(job_id).status == "paused"
