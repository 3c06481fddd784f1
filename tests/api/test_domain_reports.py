"""GET /v1/fine_tuning/jobs/{id}/report: as data and as a page, and why there is none."""

import pytest

from app.api.media_types import preferred
from app.db import transaction
from app.jobs import leases
from app.jobs.events import Event
from tests.api.scenery import Scenery
from tests.api.test_access import error_of

JSON_REPORT, PAGE = b'{"verdict": "helped"}', b"<!doctype html><title>Report</title>"
FILES = {"config.json": b"{}", "domain_report.json": JSON_REPORT, "domain_report.html": PAGE}


def path(job_id: str) -> str:
    return f"/v1/fine_tuning/jobs/{job_id}/report"


@pytest.mark.parametrize(
    ("query", "accept", "content", "media_type"),
    [
        ("", None, JSON_REPORT, "application/json"),
        ("", "*/*", JSON_REPORT, "application/json"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", PAGE, "text/html; charset=utf-8"),
        ("?format=html", "application/json", PAGE, "text/html; charset=utf-8"),
        ("?format=json", "text/html", JSON_REPORT, "application/json"),
    ],
)
def test_a_report_comes_in_the_form_that_is_asked_for(
    query: str, accept: str | None, content: bytes, media_type: str, scenery: Scenery
) -> None:
    job = scenery.succeeded_job(FILES, adaptation={"ema": {}})

    answer = scenery.client.get(path(job.id) + query, headers={"accept": accept} if accept else {"accept": ""})

    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, content, media_type)
    assert answer.headers["vary"] == "accept"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("inline;")
    policy = answer.headers.get("content-security-policy", "")
    assert ("default-src 'none'" in policy and "sandbox" in policy) == (content == PAGE)
    again = scenery.client.get(
        path(job.id) + query, headers={"accept": accept or "", "if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304


def test_a_job_that_will_have_one_says_when(scenery: Scenery) -> None:
    texts = scenery.upload(b"A text.\n", "texts.txt")
    job = scenery.create_job(target_files=[texts["id"]])

    answer = scenery.client.get(path(job["id"]))

    assert answer.status_code == 409
    assert error_of(answer)["code"] == "report_not_ready"
    assert "when it has succeeded" in error_of(answer)["message"]


def test_a_job_without_adaptation_never_has_one_and_says_which_jobs_have(scenery: Scenery) -> None:
    for job_id in (scenery.succeeded_job().id, scenery.create_job()["id"]):
        answer = scenery.client.get(path(job_id))
        assert answer.status_code == 404
        assert "jobs with target_files or with an entry in adaptation" in error_of(answer)["message"]


def test_a_failed_job_has_none(scenery: Scenery) -> None:
    job = scenery.running_job(adaptation={"ema": {}})
    with transaction(scenery.sessions) as session:
        error = {"code": "c", "message": "m", "param": None}
        leases.finish(session, job.lease_token, "failed", Event("failed"), error=error)

    answer = scenery.client.get(path(job.id))

    assert answer.status_code == 404
    assert "has not succeeded: it is failed" in error_of(answer)["message"]


def test_a_report_goes_with_its_model(scenery: Scenery) -> None:
    job = scenery.succeeded_job(FILES, adaptation={"ema": {}})
    assert scenery.client.delete(f"/v1/models/{job.fine_tuned_model}").status_code == 200

    answer = scenery.client.get(path(job.id))

    assert answer.status_code == 404
    assert job.fine_tuned_model in error_of(answer)["message"]


def test_reports_of_other_projects_are_not_there(scenery: Scenery, other_key: str) -> None:
    job = scenery.succeeded_job(FILES, adaptation={"ema": {}})

    answer = scenery.client.get(path(job.id), headers={"authorization": f"Bearer {other_key}"})

    assert answer.status_code == 404
    assert error_of(answer)["code"] == "job_not_found"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/html;q=0.2, application/json;q=0.1", "text/html"),
        ("text/*", "text/html"),
        ("TEXT/HTML", "text/html"),
        ("text/html;q=nonsense, */*;q=0.1", "application/json"),
        ("image/png", "application/json"),
        (None, "application/json"),
    ],
)
def test_the_media_type_that_is_wanted_most_is_given(accept: str | None, wanted: str) -> None:
    assert preferred(accept, "application/json", "text/html") == wanted
