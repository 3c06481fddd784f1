"""Base models that a project registers, as a client sees them. What the child makes of archives is tested elsewhere."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.catalog.tasks import TASKS
from app.db import transaction
from app.jobs import leases, registrations
from app.jobs.events import Event
from app.jobs.leases import JobError
from app.main import create_app
from app.registry.base_models import STARTER
from app.registry.models import PublishedFile
from app.storage.blobs import put
from app.storage.database import collect_orphans
from app.tables import Blob, Job, Model, StoredFile
from tests.api.conftest import headers_of
from tests.api.scenery import Scenery

ID = "@default/my-bert"
FACTS = {"family": "bert", "max_length": 512, "left_out": ["onnx/"]}
CONTENTS = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}"}


@pytest.fixture
def archive(scenery: Scenery) -> str:
    """An uploaded file; nobody looks into it here."""
    return scenery.upload(b"an archive", "my-bert.tar.gz", purpose="user_data")["id"]


def register(scenery: Scenery, file: str, name: str = "my-bert", **headers: str) -> dict[str, Any]:
    response = scenery.client.post("/v1/models", json={"file": file, "name": name}, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def finish(scenery: Scenery, problem: str | None = None) -> Job | None:
    """End the oldest registration as its worker would."""
    job = scenery.claim("control")
    return end(scenery, job, problem)


def end(scenery: Scenery, job: Job, problem: str | None = None) -> Job | None:
    assert (job.kind, job.lease_token is not None) == ("registration", True)
    files = [PublishedFile(path, put(scenery.blobs, [content])) for path, content in CONTENTS.items()]
    with transaction(scenery.sessions) as session:
        if problem is not None:
            error = JobError("pickle", problem).to_json()
            ended = leases.finish(session, job.lease_token, "failed", Event("Failed", "error"), error=error)
            registrations.settle_ended(session, [ended])
        else:
            ended = leases.finish(session, job.lease_token, "succeeded", Event("Done"))
            if ended is not None:
                registrations.succeed(session, ended, FACTS, files)
    return ended


def get(scenery: Scenery, id_: str = ID) -> dict[str, Any]:
    return scenery.client.get(f"/v1/models/{id_}").json()


def listed(scenery: Scenery) -> list[str]:
    return [model["id"] for model in scenery.client.get("/v1/models").json()["data"]]


def refused(scenery: Scenery, status: int, **body: Any) -> dict[str, Any]:
    response = scenery.client.post("/v1/models", json=body)
    assert response.status_code == status, response.text
    return response.json()["error"]


def test_a_registered_model_is_there_at_once_and_ready_when_it_is_checked(scenery: Scenery, archive: str):
    created = register(scenery, archive)
    assert (created["id"], created["object"], created["kind"]) == (ID, "model", "base")
    assert (created["status"], created["family"], created["tasks"], created["bytes"]) == ("processing", None, None, 0)
    assert created["owned_by"].startswith("proj-")
    assert created["source"]["filename"] == "my-bert.tar.gz"
    assert (get(scenery), listed(scenery)) == (created, [STARTER, ID])
    finish(scenery)
    ready = get(scenery)
    assert (ready["status"], ready["problem"], ready["family"], ready["max_length"]) == ("ready", None, "bert", 512)
    assert ready["tasks"] == [name for name, spec in TASKS.items() if "bert" in spec.model_types]
    assert ready["bytes"] == sum(map(len, CONTENTS.values()))
    assert ready["source"] == created["source"] | {"left_out": ["onnx/"]}


def test_its_files_can_be_downloaded(scenery: Scenery, archive: str):
    register(scenery, archive)
    early = scenery.client.get(f"/v1/models/{ID}/archive")
    assert (early.status_code, "still being checked" in early.json()["error"]["message"]) == (404, True)
    finish(scenery)
    files = scenery.client.get(f"/v1/models/{ID}/files").json()["data"]
    assert [file["path"] for file in files] == sorted(CONTENTS)
    assert scenery.client.get(f"/v1/models/{ID}/files/model.safetensors").content == b"weights"
    assert b"weights" in scenery.client.get(f"/v1/models/{ID}/archive").content


def test_a_job_starts_from_it_once_it_is_ready(scenery: Scenery, archive: str):
    register(scenery, archive)
    training_file = scenery.upload()["id"]
    body = {"model": ID, "training_file": training_file}
    early = scenery.client.post("/v1/fine_tuning/jobs", json=body)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "model_not_ready")
    assert early.headers["x-should-retry"] == "false"
    finish(scenery)
    created = scenery.create_job(model=ID, training_file=training_file)
    assert created["model"] == ID
    with transaction(scenery.sessions) as session:
        job = session.get_one(Job, created["id"])
        assert job.spec["fine_tuned_model"].startswith(f"ft:{ID}:default::")


def test_the_file_may_be_deleted_at_once(scenery: Scenery, archive: str):
    register(scenery, archive)
    assert scenery.client.delete(f"/v1/files/{archive}").status_code == 200
    with transaction(scenery.sessions) as session:
        collect_orphans(session, timedelta(0))
    job = scenery.claim("control")
    with transaction(scenery.sessions) as session:
        kept = session.get_one(StoredFile, (job.id, registrations.ARCHIVE))
    assert b"".join(scenery.blobs.read(kept.blob_id)) == b"an archive"
    end(scenery, job)
    with transaction(scenery.sessions) as session:
        collect_orphans(session, timedelta(0))
        assert set(session.scalars(select(Blob.bytes))) == {len(content) for content in CONTENTS.values()}
    assert scenery.client.get(f"/v1/models/{ID}/files/config.json").content == b"{}"


def test_a_model_that_is_refused_says_why_and_may_be_registered_again(scenery: Scenery, archive: str):
    register(scenery, archive)
    finish(scenery, "my-bert.tar.gz: 'a.bin' is a pickle. Fix: leave it out.")
    failed = get(scenery)
    assert (failed["status"], failed["tasks"]) == ("error", [])
    assert failed["problem"] == "my-bert.tar.gz: 'a.bin' is a pickle. Fix: leave it out."
    body = {"model": ID, "training_file": scenery.upload()["id"]}
    error = scenery.client.post("/v1/fine_tuning/jobs", json=body).json()["error"]
    assert (error["code"], "'a.bin' is a pickle" in error["message"]) == ("model_unusable", True)
    scenery.prepare()
    other = scenery.upload(b"a better archive", "better.zip", purpose="user_data")["id"]
    again = register(scenery, other)
    assert (again["status"], again["problem"], again["source"]["file"]) == ("processing", None, other)
    finish(scenery)
    assert get(scenery)["status"] == "ready"
    assert scenery.count(Job) == 2


@pytest.mark.parametrize("done", [False, True])
def test_a_name_is_given_once(scenery: Scenery, archive: str, done: bool):
    register(scenery, archive)
    if done:
        finish(scenery)
    error = refused(scenery, 409, file=archive, name="my-bert")
    assert (error["code"], error["param"], ID in error["message"]) == ("model_exists", "name", True)


def test_a_repeated_request_registers_once(scenery: Scenery, archive: str):
    first = register(scenery, archive, **{"idempotency-key": "one"})
    assert register(scenery, archive, **{"idempotency-key": "one"}) == first
    assert (scenery.count(Job), listed(scenery)) == (1, [STARTER, ID])


def test_deleting_a_model_frees_its_name_and_its_bytes(scenery: Scenery, archive: str):
    register(scenery, archive)
    finish(scenery)
    deleted = scenery.client.delete(f"/v1/models/{ID}").json()
    assert deleted == {"id": ID, "object": "model", "deleted": True}
    assert get(scenery)["error"]["code"] == "model_not_found"
    assert (scenery.count(StoredFile), scenery.count(Job), listed(scenery)) == (0, 0, [STARTER])
    assert register(scenery, archive)["status"] == "processing"


def test_a_model_that_a_job_needs_is_kept_and_one_that_a_job_used_keeps_its_id(scenery: Scenery, archive: str):
    register(scenery, archive)
    finish(scenery)
    job = scenery.create_job(model=ID)
    conflict = scenery.client.delete(f"/v1/models/{ID}")
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "model_in_use")
    assert job["id"] in conflict.json()["error"]["message"]
    assert get(scenery)["status"] == "ready"
    scenery.client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    assert scenery.client.delete(f"/v1/models/{ID}").status_code == 200
    assert listed(scenery) == [STARTER]
    error = refused(scenery, 409, file=archive, name="my-bert")
    assert (error["code"], "jobs have used it" in error["message"]) == ("model_exists", True)


def test_deleting_a_model_that_is_being_checked_ends_that(scenery: Scenery, archive: str):
    register(scenery, archive)
    job = scenery.claim("control")
    assert scenery.client.delete(f"/v1/models/{ID}").status_code == 200
    assert end(scenery, job) is None
    assert (scenery.count(Job), scenery.count(StoredFile), listed(scenery)) == (0, 0, [STARTER])


def test_base_models_that_all_share_cannot_be_deleted(scenery: Scenery):
    error = scenery.client.delete(f"/v1/models/{STARTER}").json()["error"]
    assert (error["code"], STARTER in error["message"]) == ("base_model", True)


def test_projects_see_nothing_of_one_another(scenery: Scenery, archive: str, other_key: str):
    register(scenery, archive)
    finish(scenery)
    theirs = headers_of(other_key)
    client = scenery.client
    assert client.get(f"/v1/models/{ID}", headers=theirs).status_code == 404
    assert client.get(f"/v1/models/{ID}/files/config.json", headers=theirs).status_code == 404
    assert client.delete(f"/v1/models/{ID}", headers=theirs).status_code == 404
    assert [model["id"] for model in client.get("/v1/models", headers=theirs).json()["data"]] == [STARTER]
    body = {"file": archive, "name": "my-bert"}
    assert client.post("/v1/models", json=body, headers=theirs).json()["error"]["code"] == "file_not_found"
    upload = client.post(
        "/v1/files", data={"purpose": "user_data"}, files={"file": ("a.zip", b"x")}, headers=theirs
    ).json()["id"]
    assert client.post("/v1/models", json=body | {"file": upload}, headers=theirs).json()["id"] == "@other/my-bert"


@pytest.mark.parametrize(
    ("body", "param", "named"),
    [
        ({}, None, "the body has neither"),
        ({"file": "FILE", "hub": "org/name"}, None, "the body has both"),
        ({"file": "FILE"}, None, "name is missing"),
        ({"file": "FILE", "name": "a", "revision": "main"}, None, "revision belongs to hub"),
        ({"file": "FILE", "name": "archive"}, None, "cannot be named 'archive'"),
        ({"hub": "org/files"}, None, "cannot be named 'files'"),
        ({"hub": "org/_name"}, None, "cannot be named '_name'"),
        ({"file": "FILE", "name": "a" * 65}, "name", 'a string like "my-bert"'),
        ({"file": "FILE", "name": "a/b"}, "name", 'a string like "my-bert"'),
        ({"file": "FILE", "name": ""}, "name", 'a string like "my-bert"'),
        ({"file": "FILE", "name": "-x"}, "name", 'a string like "my-bert"'),
        ({"file": "file-00", "name": "a"}, "file", "No such file: 'file-00'"),
        ({"hub": "bert"}, "hub", 'a string like "org/name"'),
        ({"hub": "../x"}, "hub", 'a string like "org/name"'),
        ({"hub": "org/name"}, "hub", "TAILOR_HUB=on"),
        ({"path": "/models/bert"}, "path", "Unknown field 'path'"),
    ],
)
def test_what_cannot_be_registered_is_refused_by_field(
    scenery: Scenery, archive: str, body: dict[str, Any], param: str | None, named: str
):
    error = refused(scenery, 400, **{name: archive if value == "FILE" else value for name, value in body.items()})
    assert named in error["message"]
    assert error["param"] == param
    assert (scenery.count(Job), scenery.count(Model)) == (0, 1)


def test_a_hub_model_is_registered_under_its_repositorys_name_where_the_hub_is_allowed(
    scenery: Scenery, api_settings, api_key: str
):
    app = create_app(api_settings.model_copy(update={"hub": "on"}))
    with TestClient(app, headers=headers_of(api_key)) as client:
        created = client.post("/v1/models", json={"hub": "org/tiny-bert", "revision": "v1"}).json()
    assert (created["id"], created["status"]) == ("@default/tiny-bert", "processing")
    assert (created["source"]["hub"], created["source"]["revision"]) == ("org/tiny-bert", "v1")
    job = scenery.claim("control")
    assert (job.kind, job.spec["source"]["hub"]) == ("registration", "org/tiny-bert")


def test_every_model_says_which_tasks_it_fits(scenery: Scenery):
    scenery.add_base_model("local/speech", family="wav2vec2")
    scenery.add_base_model("local/pickled", problem="it has no safetensors weights")
    scenery.add_base_model("org/name", family=None)
    found = {model["id"]: model for model in scenery.client.get("/v1/models").json()["data"]}
    assert "text-classification" in found[STARTER]["tasks"]
    assert (found["local/speech"]["tasks"], found["local/pickled"]["tasks"]) == ([], [])
    assert found["org/name"]["tasks"] is None
    assert {id_: model["status"] for id_, model in found.items()} == {
        STARTER: "ready",
        "local/speech": "ready",
        "local/pickled": "error",
        "org/name": "ready",
    }
