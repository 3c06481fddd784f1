from datetime import timedelta

import pytest
from sqlalchemy import func, update

from app.db import transaction
from app.errors import AppError
from app.jobs import leases, preparations, service, validation
from app.jobs.service import NewJob
from app.storage.blobs import put
from app.tables import Job
from tests.jobs.conftest import EXPIRED, GOOD
from tests.jobs.test_leases import claim, load, messages


def ask(sessions, caller, what, job_id):
    with transaction(sessions) as session:
        return getattr(service, what)(session, caller, job_id)


def test_a_waiting_job_is_paused_at_once_and_claimed_by_nobody(sessions, queued_job, caller):
    job_id = queued_job()
    assert ask(sessions, caller, "pause", job_id).status == "paused"
    assert claim(sessions) is None
    assert ask(sessions, caller, "pause", job_id).status == "paused"
    assert messages(sessions, job_id).count("Job paused") == 1


def test_a_resumed_job_waits_in_its_old_place(sessions, queued_job, caller):
    first, second = queued_job(), queued_job()
    ask(sessions, caller, "pause", first)
    resumed = ask(sessions, caller, "resume", first)
    assert (resumed.status, resumed.pause_requested_at) == ("queued", None)
    assert [claim(sessions).id, claim(sessions).id] == [first, second]


def test_a_running_job_is_paused_by_its_worker_without_spending_an_attempt(sessions, queued_job, caller):
    job_id = queued_job()
    job = claim(sessions)
    assert ask(sessions, caller, "pause", job_id).status == "running"
    with transaction(sessions) as session:
        assert leases.intents(session, job.lease_token) == leases.Intents(cancel=False, pause=True)
        leases.release(session, job.lease_token, "worker drains")
    paused = load(sessions, job_id)
    assert (paused.status, paused.attempt, paused.lease_token) == ("paused", 0, None)


def test_a_pause_that_is_withdrawn_in_time_leaves_the_job_to_the_queue(sessions, queued_job, caller):
    job_id = queued_job()
    job = claim(sessions)
    ask(sessions, caller, "pause", job_id)
    assert ask(sessions, caller, "resume", job_id).status == "running"
    assert messages(sessions, job_id)[-1] == "Pause withdrawn"
    with transaction(sessions) as session:
        leases.release(session, job.lease_token, "stopped all the same")
    assert load(sessions, job_id).status == "queued"


def test_resuming_what_is_not_paused_changes_nothing(sessions, queued_job, caller):
    job_id = queued_job()
    before = messages(sessions, job_id)
    assert ask(sessions, caller, "resume", job_id).status == "queued"
    assert messages(sessions, job_id) == before


def test_a_job_paused_while_its_files_are_read_waits_paused_once_they_are(
    sessions, caller, settings, upload, starter, blobs
):
    file_id = upload()
    with transaction(sessions) as session:
        job_id = service.create(session, caller, NewJob(starter, file_id), settings).id
    assert ask(sessions, caller, "pause", job_id).status == "validating_files"
    with transaction(sessions) as session:
        preparations.succeed(session, session.get(Job, job_id).training_preparation, put(blobs, [b"records"]), GOOD)
        assert validation.advance(session) == []
    assert load(sessions, job_id).status == "paused"
    assert ask(sessions, caller, "resume", job_id).status == "queued"


@pytest.mark.parametrize("what", ["pause", "resume"])
@pytest.mark.parametrize("end", ["cancelled", "succeeded"])
def test_a_job_that_has_ended_can_neither_be_paused_nor_resumed(sessions, queued_job, caller, what, end):
    job_id = queued_job()
    job = claim(sessions)
    with transaction(sessions) as session:
        leases.finish(session, job.lease_token, end, leases.Event("end"))
    with pytest.raises(AppError, match="only a job that has not ended") as refused:
        ask(sessions, caller, what, job_id)
    assert (refused.value.status, refused.value.extra["allowed"]) == (409, [])


def test_a_lost_job_without_attempts_fails_even_if_it_was_to_be_paused(sessions, queued_job, caller, settings):
    job_id = queued_job()
    for _ in range(settings.max_attempts):
        claim(sessions, EXPIRED)
        if load(sessions, job_id).attempt == settings.max_attempts:
            ask(sessions, caller, "pause", job_id)
        with transaction(sessions) as session:
            leases.reap(session)
    assert load(sessions, job_id).error["code"] == "worker_lost"


def test_the_time_a_job_has_run_adds_up_over_attempts_and_pauses(sessions, queued_job, caller):
    job_id = queued_job()
    for expected in (60, 120):
        job = claim(sessions)
        with transaction(sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(claimed_at=func.now() - timedelta(minutes=1)))
        ask(sessions, caller, "pause", job_id)
        with transaction(sessions) as session:
            leases.release(session, job.lease_token, "pause")
        assert load(sessions, job_id).run_seconds == pytest.approx(expected, abs=1)
        ask(sessions, caller, "resume", job_id)
    assert load(sessions, job_id).run_seconds == pytest.approx(120, abs=1)
