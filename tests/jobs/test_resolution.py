from sqlalchemy import select

from app.db import transaction
from app.jobs import service, validation
from app.jobs.service import NewJob
from app.tables import File, Job, JobEvent, Model, Preparation
from tests.jobs.conftest import GOOD, TOLD, settle

MULTI = {"task": "text-classification", "options": {"problem_type": "multi_label_classification"}, "rows": 4}
MULTI |= {"labels": {"good": 2, "bad": 2}}


def create(sessions, caller, settings, *args, **fields):
    with transaction(sessions) as session:
        return service.create(session, caller, NewJob(*args, **fields), settings)


def test_what_a_job_left_open_is_told_from_its_training_file_and_said(sessions, caller, settings, upload, starter):
    job = create(sessions, caller, settings, starter, upload(report=GOOD))
    assert job.spec["task"] == {"type": "text-classification", "problem_type": "single_label_classification"}
    with transaction(sessions) as session:
        messages = session.scalars(select(JobEvent.message).where(JobEvent.job_id == job.id)).all()
    assert any("task text-classification, problem_type single_label_classification" in text for text in messages)


def test_a_file_that_looks_otherwise_is_read_again_as_the_training_file_is(
    sessions, caller, settings, upload, starter, blobs
):
    other = upload(report=MULTI)
    job = create(sessions, caller, settings, starter, upload(report=GOOD), validation_file=other)
    assert job.status == "validating_files"
    with transaction(sessions) as session:
        again = session.get(Preparation, job.validation_preparation)
        assert (again.task, again.options) == ("text-classification", TOLD["options"])
        assert (again.file_id, again.status) == (other, "pending")
        file = session.get(File, other)
        file.preparation_id = again.id
        settle(session, blobs, file, GOOD, None)
        (advanced,) = validation.advance(session)
        assert (advanced.id, advanced.status) == (job.id, "queued")


def test_an_error_in_that_second_reading_fails_the_job(sessions, caller, settings, upload, starter, blobs):
    other = upload(report=MULTI)
    job = create(sessions, caller, settings, starter, upload(report=GOOD), validation_file=other)
    with transaction(sessions) as session:
        file = session.get(File, other)
        file.preparation_id = job.validation_preparation
        error = {"code": "label_is_list", "message": "line 3: a list", "param": None}
        settle(session, blobs, file, None, error)
        validation.advance(session)
    with transaction(sessions) as session:
        failed = session.get(Job, job.id)
        assert (failed.status, failed.error["param"]) == ("failed", "validation_file")


def test_a_file_that_was_read_so_already_is_not_read_again(sessions, caller, settings, upload, starter):
    file = upload(report=GOOD)
    task = {"type": "text-classification", "problem_type": "single_label_classification"}
    assert create(sessions, caller, settings, starter, file, task=task).status == "queued"
    with transaction(sessions) as session:
        assert len(session.scalars(select(Preparation).where(Preparation.file_id == file)).all()) == 1


def test_a_model_without_the_head_is_refused_once_the_task_is_known(sessions, caller, settings, upload, starter, blobs):
    file_id = upload()
    job = create(sessions, caller, settings, starter, file_id)
    with transaction(sessions) as session:
        session.get(Model, starter).family = "vit"  # as if a later scan of the disk had found another model there
        file = session.get(File, file_id)
        settle(session, blobs, file, GOOD, None)
        validation.advance(session)
        session.expire_all()
        job = session.get(Job, job.id)
    assert (job.status, job.error["code"], job.error["param"]) == ("failed", "model_does_not_fit_task", "model")
    assert "'vit'" in job.error["message"]
