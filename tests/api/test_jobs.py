"""Jobs once they are there: pages, filters, cancel, and what a worker leaves on them."""

import pytest
from fastapi.testclient import TestClient

from app.db import transaction
from app.jobs import leases
from app.jobs.events import Event
from app.jobs.leases import JobError, Progress
from app.main import create_app
from app.tables import Job
from tests.api.scenery import LEASE, Scenery
from tests.api.test_access import error_of

JOBS = "/v1/fine_tuning/jobs"


def test_jobs_come_in_pages_newest_first(scenery: Scenery) -> None:
    file = scenery.upload()["id"]
    made = [scenery.create_job(training_file=file)["id"] for _ in range(5)]

    first = scenery.client.get(f"{JOBS}?limit=2").json()
    second = scenery.client.get(f"{JOBS}?limit=2&after={first['data'][-1]['id']}").json()
    third = scenery.client.get(f"{JOBS}?limit=2&after={second['data'][-1]['id']}").json()

    assert [job["id"] for page in (first, second, third) for job in page["data"]] == made[::-1]
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert {page["object"] for page in (first, second, third)} == {"list"}


def test_jobs_are_found_by_metadata_and_status(scenery: Scenery) -> None:
    file = scenery.upload()["id"]
    plain = scenery.create_job(training_file=file)["id"]
    tagged = scenery.create_job(training_file=file, metadata={"a": "1", "b[c]": "x y"})["id"]
    cancelled = scenery.create_job(training_file=file, metadata={"a": "1"})["id"]
    scenery.client.post(f"{JOBS}/{cancelled}/cancel")

    def found(**query: str) -> list[str]:
        return [job["id"] for job in scenery.client.get(JOBS, params=query).json()["data"]]

    assert found(**{"metadata[a]": "1"}) == [cancelled, tagged]
    assert found(**{"metadata[a]": "1", "metadata[b[c]]": "x y"}) == [tagged]
    assert found(**{"metadata[a]": "2"}) == []
    assert found(metadata="null") == [plain]
    assert found(status="cancelled") == [cancelled]
    assert found(status="cancelled", **{"metadata[a]": "1"}) == [cancelled]


def test_a_metadata_key_given_twice_is_refused(client) -> None:
    response = client.get(f"{JOBS}?metadata[a]=1&metadata[a]=2")

    assert (response.status_code, error_of(response)["param"]) == (400, "metadata")


def test_an_unknown_status_is_told_the_known_ones(client) -> None:
    response = client.get(f"{JOBS}?status=done")

    assert response.status_code == 400
    assert "succeeded" in error_of(response)["allowed"]


@pytest.mark.parametrize("job_id", ["ftjob-00", "nonsense", "file-00", "..", "a b", "é"])
def test_a_job_that_is_not_there_is_not_found(client, job_id: str) -> None:
    for path in ("", "/events", "/checkpoints", "/metrics"):
        if job_id != "..":
            assert client.get(f"{JOBS}/{job_id}{path}").status_code == 404
    assert client.post(f"{JOBS}/{job_id}/cancel").status_code == 404


def test_a_waiting_job_is_cancelled_at_once_and_cancelling_again_changes_nothing(scenery: Scenery) -> None:
    job = scenery.create_job()

    first = scenery.client.post(f"{JOBS}/{job['id']}/cancel")
    second = scenery.client.post(f"{JOBS}/{job['id']}/cancel")

    assert first.status_code == second.status_code == 200
    assert first.json()["status"] == second.json()["status"] == "cancelled"
    assert first.json()["finished_at"] == second.json()["finished_at"] is not None
    messages = [event["message"] for event in scenery.client.get(f"{JOBS}/{job['id']}/events").json()["data"]]
    assert messages.count("Job cancelled") == 1


def test_a_running_job_is_asked_to_stop(scenery: Scenery) -> None:
    job = scenery.running_job()

    answer = scenery.client.post(f"{JOBS}/{job.id}/cancel").json()

    assert answer["status"] == "running"
    with transaction(scenery.sessions) as session:
        assert job.lease_token is not None
        intents = leases.renew(session, job.lease_token, lease=LEASE, progress=None)
    assert intents is not None
    assert intents.cancel


def test_a_time_limit_is_shown_and_the_installations_own_is_its_upper_bound(api_settings, scenery: Scenery) -> None:
    body = {"model": "starter/minilm-l6", "training_file": scenery.upload()["id"]}
    assert scenery.client.post(JOBS, json=body | {"time_limit_s": 90}).json()["time_limit_s"] == 90
    assert scenery.client.post(JOBS, json=body).json()["time_limit_s"] is None
    for wrong in (0, 1.5, "90", -1):
        refused = scenery.client.post(JOBS, json=body | {"time_limit_s": wrong})
        assert (refused.status_code, error_of(refused)["param"]) == (400, "time_limit_s")

    bounded = create_app(api_settings.model_copy(update={"job_time_limit_s": 60}))
    with TestClient(bounded, headers=scenery.client.headers) as client:
        refused = client.post(JOBS, json=body | {"time_limit_s": 90})
        assert (refused.status_code, error_of(refused)["allowed"]) == (400, 60)
        assert "TAILOR_JOB_TIME_LIMIT_S" in error_of(refused)["message"]
        assert client.post(JOBS, json=body).json()["time_limit_s"] == 60


def test_a_job_that_has_ended_cannot_be_cancelled(scenery: Scenery) -> None:
    job = scenery.succeeded_job()

    response = scenery.client.post(f"{JOBS}/{job.id}/cancel")

    assert response.status_code == 409
    assert response.headers["x-should-retry"] == "false"
    assert error_of(response)["allowed"] == []
    assert error_of(response)["type"] == "conflict_error"


def test_a_running_job_shows_its_progress(scenery: Scenery) -> None:
    job = scenery.running_job()
    assert job.lease_token is not None
    progress = {"step": 4, "total_steps": 10, "epoch": 0.4, "examples_per_second": 99.5}
    with transaction(scenery.sessions) as session:
        leases.renew(session, job.lease_token, lease=LEASE, progress=Progress(progress, eta_s=60))

    shown = scenery.client.get(f"{JOBS}/{job.id}").json()

    assert (shown["status"], shown["attempt"], shown["progress"]) == ("running", 1, progress)
    assert shown["estimated_finish"] >= shown["created_at"] + 59


def test_a_failed_job_shows_why(scenery: Scenery) -> None:
    job = scenery.running_job()
    assert job.lease_token is not None
    error = JobError("out_of_memory", "The device has too little memory.", None, {"batch_size": 16}).to_json()
    with transaction(scenery.sessions) as session:
        leases.finish(session, job.lease_token, "failed", Event("Job failed", "error"), error=error)

    shown = scenery.client.get(f"{JOBS}/{job.id}").json()

    assert shown["error"] == error
    assert shown["fine_tuned_model"] is None


def test_a_succeeded_job_shows_all_it_made(scenery: Scenery) -> None:
    job = scenery.succeeded_job(suffix="reviews")

    shown = scenery.client.get(f"{JOBS}/{job.id}").json()
    events = scenery.client.get(f"{JOBS}/{job.id}/events").json()
    checkpoints = scenery.client.get(f"{JOBS}/{job.id}/checkpoints").json()
    metrics = scenery.client.get(f"{JOBS}/{job.id}/metrics").json()

    assert shown["status"] == "succeeded"
    assert shown["fine_tuned_model"].startswith("ft:starter/minilm-l6:default:reviews:")
    assert (shown["trained_tokens"], shown["metrics"], shown["error"]) == (12, {"accuracy": 1.0}, None)
    results = scenery.client.get(f"/v1/files/{shown['result_files'][0]}").json()
    assert results["purpose"] == "fine-tune-results"
    assert scenery.client.get(f"/v1/files/{results['id']}/content").text.startswith("step,train_loss")

    assert events["data"][0]["message"] == "Job succeeded"
    assert events["data"][-1]["message"].startswith("Created fine-tuning job")
    assert {event["object"] for event in events["data"]} == {"fine_tuning.job.event"}
    assert set(events["data"][0]) == {"id", "object", "created_at", "level", "message", "type", "data"}

    assert [checkpoint["step_number"] for checkpoint in checkpoints["data"]] == [2, 1]
    assert checkpoints["first_id"] == checkpoints["data"][0]["id"]
    assert checkpoints["last_id"] == checkpoints["data"][-1]["id"]
    newest = checkpoints["data"][0]
    assert newest["fine_tuned_model_checkpoint"] == f"{shown['fine_tuned_model']}:ckpt-step-2"
    assert newest["fine_tuning_job_id"] == job.id
    assert newest["metrics"] == {"step": 2, "train_loss": 0.5}

    assert (metrics[0]["name"], metrics[0]["step"], metrics[0]["value"]) == ("loss", 1, 1.0)
    assert set(metrics[0]) == {"name", "split", "step", "epoch", "stage", "value", "created_at"}
    assert scenery.client.get(f"{JOBS}/{job.id}/metrics?name=accuracy").json() == []


def test_events_and_checkpoints_come_in_pages(scenery: Scenery) -> None:
    job = scenery.succeeded_job()
    for noun in ("events", "checkpoints"):
        whole = scenery.client.get(f"{JOBS}/{job.id}/{noun}").json()["data"]
        first = scenery.client.get(f"{JOBS}/{job.id}/{noun}?limit=1").json()
        rest = scenery.client.get(f"{JOBS}/{job.id}/{noun}?after={first['data'][0]['id']}").json()

        assert first["data"] + rest["data"] == whole
        assert (first["has_more"], rest["has_more"]) == (True, False)
        unknown = scenery.client.get(f"{JOBS}/{job.id}/{noun}?after=nonsense")
        assert (unknown.status_code, error_of(unknown)["param"]) == (404, "after")


def test_preparation_jobs_are_nobodys_fine_tuning_jobs(scenery: Scenery) -> None:
    scenery.upload()
    with transaction(scenery.sessions) as session:
        job_id = session.query(Job).one().id

    assert scenery.client.get(f"{JOBS}/{job_id}").status_code == 404
    assert scenery.client.get(JOBS).json()["data"] == []


def test_the_answer_is_sent_after_the_commit(over_http: Scenery) -> None:
    """Over a socket: in process, the client has its answer only once the application has done all it does."""
    for _ in range(20):
        job = over_http.create_job()
        with transaction(over_http.sessions) as session:
            assert session.get(Job, job["id"]) is not None
