import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.files import service as files
from app.files.lookup import get_file
from app.jobs import leases, service
from app.registry import models
from app.storage.blobs import get_file as fetch
from app.tables import Blob, Checkpoint, File, Job, Model, StoredFile
from tests.worker.conftest import TINY, Bench

LONG = Hyperparameters(n_epochs=1000, batch_size=4, eval_interval=20)
SHORT = Hyperparameters(n_epochs=3, batch_size=4)


@pytest.fixture
def children(context) -> Callable[[], list[int]]:
    """Process ids of living children of this test run that have a job."""
    return lambda: _children() + context.standby.pids


def _children() -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True).stdout
    return [
        int(line.split()[0])
        for line in listed.splitlines()
        if "worker.child" in line and line.split()[1] == str(os.getpid()) and "Z" not in line.split()[2]
    ]


def test_a_job_runs_from_upload_to_a_published_model(bench, prepared, context, tmp_path):
    job_id = bench.create(prepared, validation_file=prepared, test_file=prepared, hyperparameters=SHORT)
    job = bench.run_next("training")
    assert (job.status, job.error, job.attempt) == ("succeeded", None, 1)
    assert job.fine_tuned_model.startswith(f"ft:{TINY}:default::")
    assert "auto" not in job.hyperparameters.values()
    assert job.progress["step"] == job.progress["total_steps"] == 6
    assert set(job.metrics["test"]) >= {"accuracy", "f1_macro", "per_class", "confusion_matrix", "intervals"}
    with transaction(context.sessions) as session:
        model = models.get(session, job.project_id, job.fine_tuned_model)
        stored = models.files(session, model.id)
        assert model.labels == ["negative", "positive"]
        result = session.get(File, job.result_files[0])
        assert result.purpose == "fine-tune-results"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "manifest.json"} <= {
        file.path for file in stored
    }
    for file in stored:
        fetch(context.blobs, file.blob_id, tmp_path / file.path)
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(tmp_path), device="cpu")
    assert {answer["label"] for answer in classify(["Loud, long and empty."])} <= {"negative", "positive"}
    messages = bench.messages(job_id)
    assert messages[0] == f"Created fine-tuning job: {job_id}"
    assert messages[-1] == "The job has successfully completed"
    assert list(context.settings.runs_dir.iterdir()) == []


def test_a_bad_file_fails_its_waiting_job_with_line_and_reason(bench, rows):
    file_id = bench.upload(rows + '{"text": "no label here"}\n')
    job = bench.job(bench.create(file_id))
    assert (job.status, job.error["param"]) == ("failed", "training_file")
    assert "line 9" in job.error["message"]
    with transaction(bench.context.sessions) as session:
        file = get_file(session, job.project_id, file_id)
        assert (file.status, "line 9" in file.status_details) == ("error", True)


def test_what_the_user_must_mend_is_not_retried(bench, prepared):
    job_id = bench.create(prepared, hyperparameters=Hyperparameters(max_length=4096))
    job = bench.run_next("training")
    assert (job.status, job.attempt) == ("failed", 1)
    assert "4096" in job.error["message"]
    assert bench.messages(job_id)[-1].startswith("Job failed:")


def test_a_killed_child_is_retried_and_resumes_from_its_checkpoint(bench, prepared, context, children):
    job_id = bench.create(prepared, validation_file=prepared, hyperparameters=LONG)
    thread = bench.in_thread("training")
    bench.wait(lambda: any(message.startswith("Checkpoint created") for message in bench.messages(job_id)))
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    thread.join()
    job = bench.job(job_id)
    assert (job.status, job.attempt) == ("queued", 1)
    assert "killed by signal 9" in bench.messages(job_id)[-1]
    with transaction(context.sessions) as session:
        session.execute(update(Job).values(run_after=None))
        last_step = session.scalar(select(func.max(Checkpoint.step)))
    thread = bench.in_thread("training")
    bench.wait(lambda: any(f"resumed from step {last_step}" in message for message in bench.messages(job_id)))
    with transaction(context.sessions) as session:
        service.cancel(session, bench.caller, job_id)
    thread.join()
    assert bench.job(job_id).status == "cancelled"
    assert children() == []


def test_a_child_that_keeps_dying_fails_the_job_with_its_last_lines(bench, prepared, context, children):
    job_id = bench.create(prepared, hyperparameters=LONG)
    for attempt in range(1, context.settings.max_attempts + 1):
        with transaction(context.sessions) as session:
            session.execute(update(Job).values(run_after=None))
        thread = bench.in_thread("training")
        bench.wait(lambda: any(message.startswith("Training started") for message in bench.messages(job_id)))
        bench.wait(children)
        for pid in children():
            os.kill(pid, signal.SIGSEGV)
        thread.join()
        assert bench.job(job_id).attempt == attempt
    job = bench.job(job_id)
    assert (job.status, job.error["code"]) == ("failed", "child_crashed")
    assert "signal 11" in job.error["message"]
    assert "stderr" in job.error["data"]


def test_a_running_job_is_cancelled_within_a_step(bench, prepared, context, children):
    job_id = bench.create(prepared, hyperparameters=LONG)
    thread = bench.in_thread("training")
    bench.wait_for_step(job_id, 1)
    with transaction(context.sessions) as session:
        service.cancel(session, bench.caller, job_id)
    thread.join()
    job = bench.job(job_id)
    assert (job.status, job.error, job.fine_tuned_model) == ("cancelled", None, None)
    assert children() == []


def test_a_child_that_does_not_stop_is_killed_after_the_grace(bench, prepared, context, children):
    impatient = type(context)(
        **{**vars(context), "settings": context.settings.model_copy(update={"cancel_grace_s": 0.3})}
    )
    job_id = bench.create(prepared, hyperparameters=LONG)
    thread = bench.in_thread("training", impatient)
    bench.wait_for_step(job_id, 1)
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    with transaction(context.sessions) as session:
        service.cancel(session, bench.caller, job_id)
    thread.join()
    assert bench.job(job_id).status == "cancelled"
    assert children() == []


def test_a_draining_worker_gives_the_job_back_with_a_checkpoint(bench, prepared, context):
    job_id = bench.create(prepared, hyperparameters=LONG.model_copy(update={"eval_interval": 100_000}))
    thread = bench.in_thread("training")
    bench.wait_for_step(job_id, 1)
    context.draining.set()
    thread.join()
    job = bench.job(job_id)
    assert (job.status, job.attempt, job.lease_token) == ("queued", 0, None)
    with transaction(context.sessions) as session:
        assert session.scalar(select(func.count()).select_from(Checkpoint)) == 1
    context.draining.clear()
    thread = bench.in_thread("training")
    bench.wait(lambda: any("resumed from step" in message for message in bench.messages(job_id)))
    context.draining.set()
    thread.join()


def test_a_worker_that_lost_its_lease_kills_the_child_and_publishes_nothing(bench, prepared, context, children):
    job_id = bench.create(prepared, hyperparameters=LONG)
    thread = bench.in_thread("training")
    bench.wait_for_step(job_id, 1)
    with transaction(context.sessions) as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=func.now() - timedelta(1)))
        leases.reap(session)
    thread.join()
    assert bench.job(job_id).status == "queued"
    assert children() == []
    with transaction(context.sessions) as session:
        assert session.scalars(select(Model.id).where(Model.kind == "fine_tuned")).all() == []


def test_a_file_deleted_during_its_preparation_leaves_nothing(bench, rows, context, children):
    file_id = bench.upload(rows * 50_000)
    thread = bench.in_thread("control")
    bench.wait(children)
    with transaction(context.sessions) as session:
        files.delete(session, bench.caller, file_id)
    thread.join()
    with transaction(context.sessions) as session:
        assert session.scalars(select(Job)).all() == []
        assert children() == []


def test_checkpoints_are_pruned_to_the_best_and_the_last(bench, prepared, context):
    asked = Hyperparameters(n_epochs=12, batch_size=4, eval_interval=2)
    job_id = bench.create(prepared, validation_file=prepared, hyperparameters=asked)
    job = bench.run_next("training")
    assert job.status == "succeeded"
    with transaction(context.sessions) as session:
        kept, _ = service.checkpoints(session, bench.caller, job_id, after=None, limit=100)
        assert 1 <= len(kept) <= 2
        assert kept[0].step == 24
        assert [row.step for row in kept if row.best] == [job.metrics["best_step"]]
        owners = {row.model_id for row in kept} | {row.id for row in kept} | {job.fine_tuned_model}
        assert set(session.scalars(select(StoredFile.owner_id).distinct())) == owners


def test_the_final_weights_are_stored_once(bench, prepared, context):
    bench.create(prepared, hyperparameters=SHORT)
    bench.run_next("training")
    with transaction(context.sessions) as session:
        named = session.execute(
            select(StoredFile.sha256, func.count(StoredFile.blob_id.distinct()))
            .where(StoredFile.path.endswith("model.safetensors"))
            .group_by(StoredFile.sha256)
        ).all()
        assert named
        assert all(count == 1 for _, count in named)
        assert session.scalar(select(func.count()).select_from(Blob).where(Blob.sha256.is_(None))) == 0


@pytest.mark.parametrize("standby", [True, False])
def test_a_supervisors_death_ends_its_child_at_once(tmp_path: Path, standby: bool):
    script = (
        "import sys, pathlib, time; from worker.process import Child\n"
        f"child = Child(preload={standby})\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as supervisor:
        pid = int(supervisor.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        supervisor.kill()
    Bench.wait(None, lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())
