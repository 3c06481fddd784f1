import pytest
from sqlalchemy import select

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.errors import AppError
from app.files import service as files
from app.jobs import leases, service, use, validation
from app.jobs.service import NewJob
from app.projects import authenticate, create_key
from app.registry import models
from app.tables import File, Job, Model, Preparation
from tests.jobs.conftest import GOOD, LEASE, settle


def create(sessions, caller, settings, *args, **fields):
    with transaction(sessions) as session:
        return service.create(session, caller, NewJob(*args, **fields), settings)


def test_a_job_on_prepared_files_is_queued_at_once(sessions, caller, settings, upload, starter):
    job = create(sessions, caller, settings, starter, upload(report=GOOD))
    assert job.status == "queued"
    assert 0 <= job.seed <= service.MAX_SEED
    assert job.spec["task"] == {"type": "text-classification", "problem_type": "single_label_classification"}


def test_a_job_on_a_file_in_preparation_waits_for_it(sessions, caller, settings, upload, starter, blobs):
    file_id = upload()
    job = create(sessions, caller, settings, starter, file_id)
    assert job.status == "validating_files"
    with transaction(sessions) as session:
        settle(session, blobs, session.get(File, file_id), GOOD, None)
        (advanced,) = validation.advance(session)
        assert (advanced.id, advanced.status) == (job.id, "queued")


def test_a_job_on_a_bad_file_fails_naming_file_and_line(sessions, caller, settings, upload, starter):
    error = {"code": "invalid_json", "message": "line 17: broken JSON", "param": None, "data": {"line": 17}}
    job = create(sessions, caller, settings, starter, upload(error=error))
    assert job.status == "failed"
    assert "line 17" in job.error["message"]
    assert "reviews.jsonl" in job.error["message"]
    assert (job.error["param"], job.error["data"]) == ("training_file", {"line": 17})


def test_one_label_only_cannot_be_trained_on(sessions, caller, settings, upload, starter):
    job = create(sessions, caller, settings, starter, upload(report={"rows": 3, "labels": {"good": 3}}))
    assert (job.status, job.error["code"]) == ("failed", "one_label_only")
    assert "'good'" in job.error["message"]


@pytest.mark.parametrize("param", ["validation_file", "test_file"])
def test_a_label_that_training_never_saw_is_named(sessions, caller, settings, upload, starter, param):
    other = upload(report={"rows": 3, "labels": {"good": 2, "meh": 1}})
    job = create(sessions, caller, settings, starter, upload(report=GOOD), **{param: other})
    assert (job.status, job.error["code"], job.error["param"]) == ("failed", "unseen_label", param)
    assert "'meh'" in job.error["message"]
    assert sorted(job.error["data"]["allowed"]) == ["bad", "good"]


def test_class_weights_must_name_the_labels(sessions, caller, settings, upload, starter):
    asked = Hyperparameters(class_weights={"good": 1.0, "ugly": 2.0})
    job = create(sessions, caller, settings, starter, upload(report=GOOD), hyperparameters=asked)
    assert job.error["code"] == "class_weights_mismatch"
    assert "'bad'" in job.error["message"]
    assert "'ugly'" in job.error["message"]


def test_equal_bytes_are_read_once(sessions, caller, settings, upload, starter):
    first, second = upload(report=GOOD, text="same"), upload(text="same")
    with transaction(sessions) as session:
        assert session.get(File, second).status == "processed"
        assert len(session.scalars(select(Job).where(Job.kind == "preparation")).all()) == 1
        blobs = {row.file_id: row.blob_id for row in session.scalars(select(Preparation))}
        assert blobs[first] == blobs[second]


def test_a_preparation_lost_with_its_worker_is_tried_again_by_the_next_job(sessions, caller, settings, upload, starter):
    lost = {"code": "worker_lost", "message": "lost", "param": None}
    job = create(sessions, caller, settings, starter, upload(error=lost))
    assert job.status == "validating_files"


def test_cancelling_a_waiting_job_is_immediate_and_repeatable(sessions, caller, queued_job):
    job_id = queued_job()
    for _ in range(2):
        with transaction(sessions) as session:
            assert service.cancel(session, caller, job_id).status == "cancelled"


def test_cancelling_an_ended_job_names_what_is_possible(sessions, caller, queued_job):
    job_id = queued_job()
    with transaction(sessions) as session:
        job = leases.claim(session, owner="w", queues=["training"], lease=LEASE)
        leases.finish(session, job.lease_token, "succeeded", leases.Event("done"))
    with transaction(sessions) as session, pytest.raises(AppError) as refused:
        service.cancel(session, caller, job_id)
    assert (refused.value.status, refused.value.extra) == (409, {"allowed": []})


def test_jobs_are_paged_newest_first_and_filtered(sessions, caller, queued_job):
    ids = [queued_job(metadata={"team": "a" if number % 2 else "b"}) for number in range(5)]
    with transaction(sessions) as session:
        first, more = service.page(session, caller, after=None, limit=3)
        rest, none_left = service.page(session, caller, after=first[-1].id, limit=3)
        of_team, _ = service.page(session, caller, after=None, limit=10, metadata={"team": "a"})
        assert service.page(session, caller, after=None, limit=10, status="failed") == ([], False)
    assert [job.id for job in [*first, *rest]] == ids[::-1]
    assert (more, none_left) == (True, False)
    assert [job.id for job in of_team] == [ids[3], ids[1]]


def test_nothing_of_another_project_is_visible(sessions, caller, settings, queued_job, upload, starter):
    job_id, file_id = queued_job(), upload(report=GOOD)
    with transaction(sessions) as session:
        _, key = create_key(session, project="other", name="k")
        stranger = authenticate(session, key)
    with transaction(sessions) as session:
        for act in (
            lambda: service.get(session, stranger, job_id),
            lambda: service.cancel(session, stranger, job_id),
            lambda: files.delete(session, stranger, file_id),
            lambda: service.create(session, stranger, NewJob(starter, file_id), settings),
        ):
            with pytest.raises(AppError, match="No such"):
                act()


def test_a_file_that_a_waiting_job_needs_cannot_be_deleted(sessions, caller, queued_job):
    job_id = queued_job()
    with transaction(sessions) as session:
        file_id = session.get(Job, job_id).training_file
        with pytest.raises(AppError, match=job_id):
            files.delete(session, caller, file_id)
    with transaction(sessions) as session:
        service.cancel(session, caller, job_id)
        files.delete(session, caller, file_id)
    with transaction(sessions) as session:
        assert session.get(Job, job_id).training_file == file_id
        assert session.scalars(select(Preparation)).all() == []


def test_a_model_that_a_waiting_job_starts_from_cannot_be_deleted(sessions, caller, settings, upload, starter):
    with transaction(sessions) as session:
        tuned = Model(
            id="ft:a:b:c:1", kind="fine_tuned", project_id=caller.project_id, family="bert", bytes=0, parent=starter
        )
        session.add(tuned)
    job = create(sessions, caller, settings, "ft:a:b:c:1", upload(report=GOOD))
    with transaction(sessions) as session:
        model = models.get(session, caller.project_id, "ft:a:b:c:1")
        waiting = use.unfinished_jobs_of_model(session, model.id)
        with pytest.raises(AppError, match=job.id):
            models.delete(session, model, unfinished_jobs=waiting)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("starter/nothing", "model_not_found"),
        ("org/on-the-hub", "model_not_found"),
        ("local/pickled", "model_unusable"),
        ("local/speech", "model_does_not_fit_task"),
    ],
)
def test_a_base_model_that_cannot_be_used_is_refused_with_the_reason(
    sessions, caller, settings, upload, starter, model, code
):
    with transaction(sessions) as session:
        session.add(
            Model(id="local/pickled", kind="base", bytes=1, status="error", problem="it has no safetensors weights")
        )
        session.add(Model(id="local/speech", kind="base", bytes=1, family="wav2vec2"))
    with pytest.raises(AppError) as refused:
        create(sessions, caller, settings, model, upload(report=GOOD))
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, "model")
