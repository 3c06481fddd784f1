"""What a client hears of a checkpoint that retention removed."""

from datetime import timedelta

from sqlalchemy import func, select

from app.db import transaction
from app.jobs.retention import remove_checkpoints
from app.projects import create_key
from app.tables import Checkpoint, Job, Model
from tests.api.conftest import headers_of

FINAL = "ft:local/tiny:default::1234"
CHECKPOINT = f"{FINAL}:ckpt-step-7"


def test_a_removed_checkpoint_is_404_with_the_reason_and_the_models_that_there_are(client, sessions, caller):
    with transaction(sessions) as session:
        then = session.scalar(select(func.now() - timedelta(days=40)))
        job = Job(
            id="ftjob-1",
            project_id=caller.project_id,
            kind="fine_tuning",
            queue="training",
            status="succeeded",
            finished_at=then,
            max_attempts=3,
            fine_tuned_model=FINAL,
        )
        session.add(job)
        session.flush()
        for id_, kind in ((FINAL, "fine_tuned"), (CHECKPOINT, "checkpoint")):
            session.add(Model(id=id_, project_id=caller.project_id, kind=kind, bytes=1, job_id=job.id))
        session.flush()
        session.add(Checkpoint(id="c", job_id=job.id, step=7, best=True, metrics={}, model_id=CHECKPOINT))
        other = create_key(session, project="other", name="other")[1]
    assert client.get(f"/v1/models/{CHECKPOINT}").status_code == 200
    with transaction(sessions) as session:
        assert remove_checkpoints(session, timedelta(days=30)) == [CHECKPOINT]
    for path in ("", "/files", "/archive", "/files/model.safetensors"):
        response = client.get(f"/v1/models/{CHECKPOINT}{path}")
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert error["message"].startswith(f"Model {CHECKPOINT!r} was removed on 20")
        assert "TAILOR_CHECKPOINT_RETENTION_DAYS" in error["message"]
        assert error["message"].endswith(f"The job's model is {FINAL!r}.")
    assert client.get(f"/v1/models/{FINAL}").status_code == 200
    stranger = client.get(f"/v1/models/{CHECKPOINT}", headers=headers_of(other))
    assert stranger.json()["error"]["message"] == f"No such model: {CHECKPOINT!r}"
