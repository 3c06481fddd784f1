import threading
import uuid
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from app.db import transaction
from app.jobs import events, leases, service
from app.jobs.events import Event
from app.jobs.leases import JobError, Progress
from app.tables import Job, JobEvent
from tests.jobs.conftest import EXPIRED, LEASE


def claim(sessions, lease=LEASE, owner="worker"):
    with transaction(sessions) as session:
        return leases.claim(session, owner=owner, queues=["training"], lease=lease)


def load(sessions, job_id):
    with transaction(sessions) as session:
        return session.get(Job, job_id)


def messages(sessions, job_id):
    with transaction(sessions) as session:
        return list(session.scalars(select(JobEvent.message).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)))


def test_a_claim_takes_the_oldest_job_and_spends_an_attempt(sessions, queued_job):
    first, second = queued_job(), queued_job()
    job = claim(sessions)
    assert (job.id, job.status, job.attempt, job.lease_owner) == (first, "running", 1, "worker")
    assert claim(sessions).id == second
    assert claim(sessions) is None


def test_many_claimers_at_once_never_share_a_job(sessions, queued_job):
    jobs = {queued_job() for _ in range(12)}
    claimed, barrier = [], threading.Barrier(6)

    def take():
        barrier.wait()
        while job := claim(sessions):
            claimed.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(claimed) == dict.fromkeys(jobs, 1)


def test_a_claim_leaves_other_queues_and_postponed_jobs_alone(sessions, queued_job):
    job_id = queued_job()
    with transaction(sessions) as session:
        assert leases.claim(session, owner="w", queues=["control"], lease=LEASE) is None
        session.get(Job, job_id).run_after = session.scalar(select(func.now() + timedelta(hours=1)))
    assert claim(sessions) is None


def test_a_renewal_pushes_the_expiry_and_stores_progress(sessions, queued_job):
    queued_job()
    job = claim(sessions, timedelta(seconds=1))
    with transaction(sessions) as session:
        intents = leases.renew(session, job.lease_token, lease=LEASE, progress=Progress({"step": 3}, 100.0))
    renewed = load(sessions, job.id)
    assert intents == leases.Intents(cancel=False, pause=False)
    assert renewed.lease_expires_at > job.lease_expires_at
    assert renewed.progress == {"step": 3}
    assert renewed.estimated_finish is not None


def test_a_renewal_tells_of_a_cancel_request(sessions, queued_job, caller):
    job_id = queued_job()
    job = claim(sessions)
    with transaction(sessions) as session:
        assert service.cancel(session, caller, job_id).status == "running"
    with transaction(sessions) as session:
        assert leases.renew(session, job.lease_token, lease=LEASE, progress=None).cancel


@pytest.mark.parametrize("act", ["renew", "finish", "release", "retry", "hold"])
def test_a_stale_token_changes_nothing(sessions, queued_job, act):
    job_id = queued_job()
    old = claim(sessions, EXPIRED)
    with transaction(sessions) as session:
        leases.reap(session)
    new = claim(sessions)
    assert new.id == job_id
    before = messages(sessions, job_id)
    with transaction(sessions) as session:
        done = {
            "renew": lambda: leases.renew(session, old.lease_token, lease=LEASE, progress=Progress({"step": 9}, None)),
            "finish": lambda: leases.finish(session, old.lease_token, "succeeded", Event("done"), metrics={"a": 1}),
            "release": lambda: leases.release(session, old.lease_token, "drained"),
            "retry": lambda: leases.retry(session, old.lease_token, Event("again")),
            "hold": lambda: leases.hold(session, old.lease_token),
        }[act]()
    assert done is None
    job = load(sessions, job_id)
    assert (job.status, job.lease_token, job.metrics, job.progress) == ("running", new.lease_token, None, None)
    assert messages(sessions, job_id) == before


def test_finishing_twice_counts_once(sessions, queued_job):
    queued_job()
    job = claim(sessions)
    for expected in (job.id, None):
        with transaction(sessions) as session:
            ended = leases.finish(session, job.lease_token, "succeeded", Event("done"), fine_tuned_model="ft:x")
            assert (ended.id if ended else None) == expected
    ended = load(sessions, job.id)
    assert (ended.status, ended.fine_tuned_model, ended.lease_owner) == ("succeeded", "ft:x", None)
    assert ended.finished_at is not None
    assert messages(sessions, job.id).count("done") == 1


def test_a_release_gives_the_attempt_back(sessions, queued_job):
    queued_job()
    job = claim(sessions)
    with transaction(sessions) as session:
        leases.release(session, job.lease_token, "worker drains")
    assert (load(sessions, job.id).status, load(sessions, job.id).attempt) == ("queued", 0)
    assert claim(sessions).attempt == 1


def test_a_retry_keeps_the_attempt_spent_and_waits(sessions, queued_job):
    queued_job()
    job = claim(sessions)
    with transaction(sessions) as session:
        leases.retry(session, job.lease_token, Event("again"), delay=timedelta(hours=1))
    assert (load(sessions, job.id).status, load(sessions, job.id).attempt) == ("queued", 1)
    assert claim(sessions) is None


def test_reaping_leaves_living_leases_alone(sessions, queued_job):
    queued_job()
    job = claim(sessions)
    with transaction(sessions) as session:
        assert leases.reap(session) == []
    assert load(sessions, job.id).lease_token == job.lease_token


def test_a_lost_job_is_queued_again_until_its_attempts_are_spent(sessions, queued_job, settings):
    job_id = queued_job()
    for attempt in range(1, settings.max_attempts + 1):
        assert claim(sessions, EXPIRED).attempt == attempt
        with transaction(sessions) as session:
            (reaped,) = leases.reap(session)
        assert reaped.status == ("queued" if attempt < settings.max_attempts else "failed")
    job = load(sessions, job_id)
    assert job.error["code"] == "worker_lost"
    assert "attempt 3 of 3" in messages(sessions, job_id)[-1]


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(sessions, queued_job, caller):
    job_id = queued_job()
    claim(sessions, EXPIRED)
    with transaction(sessions) as session:
        service.cancel(session, caller, job_id)
    with transaction(sessions) as session:
        leases.reap(session)
    assert load(sessions, job_id).status == "cancelled"


def test_every_change_of_state_is_an_event_in_the_same_transaction(sessions, queued_job):
    job_id = queued_job()
    job = claim(sessions)

    def finish_in_a_power_cut() -> None:
        with transaction(sessions) as session:
            leases.finish(session, job.lease_token, "failed", Event("lost"), error=JobError("x", "y").to_json())
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        finish_in_a_power_cut()
    assert load(sessions, job_id).status == "running"
    assert "lost" not in messages(sessions, job_id)


@pytest.mark.parametrize(
    ("column", "value"),
    [("lease_token", None), ("status", "queued"), ("status", "succeeded"), ("status", "nonsense")],
)
def test_the_database_itself_refuses_states_that_make_no_sense(sessions, queued_job, column, value):
    job_id = queued_job()
    claim(sessions)
    statement = text(f"UPDATE jobs SET {column} = :value WHERE id = :id")
    with pytest.raises(Exception, match="check constraint"), transaction(sessions) as session:
        session.execute(statement, {"value": value, "id": job_id})


def test_an_event_sent_twice_is_stored_once_and_keeps_its_place(sessions, queued_job):
    job_id = queued_job()
    sent = [Event(f"line {number}", source=f"1:{number}") for number in range(5)]
    for batch in (sent[:3], sent[1:4], sent):
        with transaction(sessions) as session:
            events.append(session, job_id, batch)
    assert [line for line in messages(sessions, job_id) if line.startswith("line")] == [f"line {n}" for n in range(5)]


def test_a_step_measured_again_overwrites_its_own_numbers(sessions, queued_job):
    job_id = queued_job()
    for value in (0.5, 0.25):
        with transaction(sessions) as session:
            events.record_metrics(session, job_id, [events.MetricPoint("train", "loss", 10, 0.1, value)])
    with transaction(sessions) as session:
        assert [point.value for point in events.metrics(session, job_id)] == [0.25]


def test_tokens_are_never_reused(sessions, queued_job):
    queued_job()
    seen: set[uuid.UUID] = set()
    for _ in range(2):
        job = claim(sessions, EXPIRED)
        assert job.lease_token not in seen
        seen.add(job.lease_token)
        with transaction(sessions) as session:
            leases.reap(session)
