"""Files once they are there: pages, reports, deletes."""

import pytest

from app.db import transaction
from app.storage.database import collect_orphans
from app.tables import Blob, File, Preparation
from tests.api.scenery import REPORT, ROWS, Scenery
from tests.api.test_access import error_of


def test_files_come_in_pages_in_either_order(scenery: Scenery) -> None:
    made = [scenery.upload(filename=f"{number}.jsonl")["id"] for number in range(5)]

    def walk(order: str) -> list[str]:
        ids: list[str] = []
        while True:
            query = {"limit": "2", "order": order} | ({"after": ids[-1]} if ids else {})
            page = scenery.client.get("/v1/files", params=query).json()
            assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
            ids += [file["id"] for file in page["data"]]
            if not page["has_more"]:
                return ids

    assert walk("asc") == made
    assert walk("desc") == made[::-1]
    assert [file["id"] for file in scenery.client.get("/v1/files").json()["data"]] == made[::-1]


def test_an_empty_list_has_no_ids(client) -> None:
    assert client.get("/v1/files").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_files_are_found_by_purpose(scenery: Scenery) -> None:
    scenery.upload()
    batch = scenery.upload(purpose="batch")["id"]

    assert [file["id"] for file in scenery.client.get("/v1/files?purpose=batch").json()["data"]] == [batch]
    assert scenery.client.get("/v1/files?purpose=fine-tune-results").json()["data"] == []


def test_the_status_and_the_report_follow_the_preparation(scenery: Scenery) -> None:
    file = scenery.upload()
    path = f"/v1/files/{file['id']}"
    assert scenery.client.get(f"{path}/report").json()["status"] == "pending"

    scenery.prepare()

    assert scenery.client.get(path).json()["status"] == "processed"
    report = scenery.client.get(f"{path}/report").json()
    assert report == {
        "object": "file.report",
        "file_id": file["id"],
        "status": "processed",
        "task": "text-classification",
        "columns": {},
        "model": "starter/minilm-l6",
        "report": REPORT,
        "error": None,
    }


def test_a_failed_preparation_is_told_on_the_file(scenery: Scenery) -> None:
    file = scenery.upload()
    error = {"code": "malformed_json", "message": "line 7 is not JSON", "param": None, "data": {"line": 7}}

    scenery.prepare(error=error)

    shown = scenery.client.get(f"/v1/files/{file['id']}").json()
    assert (shown["status"], shown["status_details"]) == ("error", "line 7 is not JSON")
    report = scenery.client.get(f"/v1/files/{file['id']}/report").json()
    assert (report["status"], report["error"]) == ("error", error)


def test_the_reading_of_a_job_has_its_own_report(scenery: Scenery) -> None:
    file = scenery.upload()
    job = scenery.create_job(training_file=file["id"], columns={"text": "review"})
    other = scenery.create_job()

    own = scenery.client.get(f"/v1/files/{file['id']}/report?job={job['id']}")
    foreign = scenery.client.get(f"/v1/files/{file['id']}/report?job={other['id']}")

    assert own.json()["columns"] == {"text": "review"}
    assert (foreign.status_code, error_of(foreign)["code"]) == (400, "file_not_in_job")


def test_a_file_that_was_not_prepared_has_no_report(scenery: Scenery) -> None:
    response = scenery.client.get(f"/v1/files/{scenery.upload(purpose='batch')['id']}/report")

    assert (response.status_code, error_of(response)["code"]) == (404, "report_not_found")


def test_a_deleted_file_is_gone_with_all_that_was_read_from_it(scenery: Scenery) -> None:
    file = scenery.upload()
    scenery.prepare()
    path = f"/v1/files/{file['id']}"

    answer = scenery.client.delete(path)

    assert answer.json() == {"id": file["id"], "object": "file", "deleted": True}
    for request in (scenery.client.delete(path), *(scenery.client.get(path + x) for x in ("", "/content", "/report"))):
        assert (request.status_code, error_of(request)["code"]) == (404, "file_not_found")
    assert scenery.count(Preparation) == 0
    with transaction(scenery.sessions) as session:
        session.query(Blob).update({"touched_at": File.created_at.type.python_type(2020, 1, 1)})
        assert collect_orphans(session) == 2


def test_a_file_in_use_cannot_be_deleted_until_its_job_has_ended(scenery: Scenery) -> None:
    file = scenery.upload()
    job = scenery.create_job(validation_file=file["id"])

    refused = scenery.client.delete(f"/v1/files/{file['id']}")

    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"
    assert error_of(refused)["code"] == "file_in_use"
    assert job["id"] in error_of(refused)["message"]
    scenery.client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    assert scenery.client.delete(f"/v1/files/{file['id']}").status_code == 200


@pytest.mark.parametrize("file_id", ["file-00", "nonsense", "ftjob-00", "a b", "é", "x" * 1000])
def test_a_file_that_is_not_there_is_not_found(client, file_id: str) -> None:
    for path in ("", "/content", "/report"):
        response = client.get(f"/v1/files/{file_id}{path}")
        assert (response.status_code, error_of(response)["code"]) == (404, "file_not_found")


def test_content_is_sent_as_a_download(scenery: Scenery) -> None:
    file = scenery.upload(filename='a"b%20ü.jsonl')

    response = scenery.client.get(f"/v1/files/{file['id']}/content")

    assert response.content == ROWS
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-content-type-options"] == "nosniff"
    disposition = response.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="')
    assert disposition.endswith("%C3%BC.jsonl")
