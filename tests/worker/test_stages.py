"""A job of several stages between its worker and the database."""

from sqlalchemy import select

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.jobs import events, service
from app.tables import Checkpoint, Model
from tests.worker.conftest import Bench

TEXTS = "\n\n".join(f"Text {number} of the domain is about trial number {number}." for number in range(40)) + "\n"


def test_a_job_that_is_paused_behind_its_first_stage_goes_on_with_what_that_made(bench: Bench, prepared: str):
    asked = Hyperparameters(max_steps=100, n_epochs=1000, batch_size=4, eval_interval=10, max_length=32)
    pretraining = {"files": [bench.upload(TEXTS, "texts.txt")], "max_steps": 4, "batch_size": 2}
    job_id = bench.create(
        prepared,
        validation_file=prepared,
        target_files=[bench.upload("Further texts of it.\n", "further.txt")],
        hyperparameters=asked,
        adaptation={"continued_pretraining": pretraining},
    )
    thread = bench.in_thread("training")
    bench.wait(lambda: any(message == "Checkpoint created at step 14" for message in bench.messages(job_id)))
    with transaction(bench.context.sessions) as session:
        service.pause(session, bench.caller, job_id)
    thread.join()
    assert bench.job(job_id).status == "paused"
    with transaction(bench.context.sessions) as session:
        pinned = select(Checkpoint.step).where(Checkpoint.job_id == job_id, Checkpoint.pinned)
        assert list(session.scalars(pinned)) == [4]
        kept = select(Checkpoint.step, Model.task).join(Model, Model.id == Checkpoint.model_id)
        tasks = dict(session.execute(kept.where(Checkpoint.job_id == job_id)).all())
        assert tasks == dict.fromkeys(tasks, "text-classification") | {4: "fill-mask"}
        service.resume(session, bench.caller, job_id)

    job = bench.run_next("training")

    assert (job.status, job.error) == ("succeeded", None)
    assert job.progress["step"] == job.progress["total_steps"] == 104
    assert "stage" not in job.progress
    assert any("resumed from step" in message for message in bench.messages(job_id))
    with transaction(bench.context.sessions) as session:
        numbers = events.metrics(session, job_id)
    steps = {stage: [row.step for row in numbers if row.stage == stage] for stage in ("continued_pretraining", None)}
    assert max(steps["continued_pretraining"]) == 4 <= min(steps[None])
    assert max(steps[None]) <= 104
