"""Keys, and what one project sees of another."""

import re

import httpx
import pytest

from app.db import SessionFactory, transaction
from app.projects import create_key, revoke_key
from tests.api.conftest import headers_of
from tests.api.scenery import Scenery


def error_of(response: httpx.Response) -> dict:
    body = response.json()
    assert list(body) == ["error"]
    assert {"message", "type", "param", "code"} <= set(body["error"])
    return body["error"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("Basic dXNlcjpwYXNz", "invalid_authorization_header"),
        ("Bearer", "invalid_authorization_header"),
        ("Bearer ", "invalid_authorization_header"),
        ("Bearer tlr-unknown", "invalid_api_key"),
        ("Bearer é", "invalid_api_key"),
    ],
)
def test_a_request_without_a_valid_key_is_told_what_is_wrong_with_it(anonymous, header: str | None, code: str) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]

    response = anonymous.get("/v1/files", headers=headers)

    assert response.status_code == 401
    assert error_of(response)["code"] == code
    assert error_of(response)["type"] == "authentication_error"
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_key_stops_working_at_once(anonymous, sessions: SessionFactory) -> None:
    with transaction(sessions) as session:
        info, key = create_key(session, name="leaver")
    assert anonymous.get("/v1/models", headers=headers_of(key)).status_code == 200
    with transaction(sessions) as session:
        revoke_key(session, info.id)

    response = anonymous.get("/v1/models", headers=headers_of(key))

    assert response.status_code == 401
    assert error_of(response)["code"] == "revoked_api_key"


def test_every_path_but_health_and_documentation_needs_a_key(anonymous, app) -> None:
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            response = anonymous.request(method, re.sub(r"\{\w+\}", "x", path))
            expected = 200 if path in ("/healthz", "/readyz") else 401
            if method == "post" and path == "/v1/fine_tuning/jobs":
                assert response.status_code in (400, 401)
            else:
                assert response.status_code == expected, path


def test_nothing_of_a_project_is_visible_to_another(scenery: Scenery, other_key: str) -> None:
    job = scenery.succeeded_job()
    model, file = job.fine_tuned_model, job.training_file
    theirs = headers_of(other_key)
    paths = [
        f"/v1/files/{file}",
        f"/v1/files/{file}/content",
        f"/v1/files/{file}/report",
        f"/v1/files?after={file}",
        f"/v1/fine_tuning/jobs/{job.id}",
        f"/v1/fine_tuning/jobs/{job.id}/events",
        f"/v1/fine_tuning/jobs/{job.id}/checkpoints",
        f"/v1/fine_tuning/jobs/{job.id}/metrics",
        f"/v1/fine_tuning/jobs?after={job.id}",
        f"/v1/models/{model}",
        f"/v1/models/{model}/files",
        f"/v1/models/{model}/files/config.json",
        f"/v1/models/{model}/archive",
        f"/v1/models/{model}:ckpt-step-1",
    ]
    for path in paths:
        assert scenery.client.get(path).status_code == 200, path
        assert scenery.client.get(path, headers=theirs).status_code == 404, path

    assert scenery.client.delete(f"/v1/files/{file}", headers=theirs).status_code == 404
    assert scenery.client.delete(f"/v1/models/{model}", headers=theirs).status_code == 404
    assert scenery.client.post(f"/v1/fine_tuning/jobs/{job.id}/cancel", headers=theirs).status_code == 404
    assert scenery.client.get("/v1/files", headers=theirs).json()["data"] == []
    assert scenery.client.get("/v1/fine_tuning/jobs", headers=theirs).json()["data"] == []
    assert [model["kind"] for model in scenery.client.get("/v1/models", headers=theirs).json()["data"]] == ["base"]
    created = scenery.client.post(
        "/v1/fine_tuning/jobs", json={"model": "starter/minilm-l6", "training_file": file}, headers=theirs
    )
    assert created.status_code == 400
    assert error_of(created) == {
        "message": f"No such file: '{file}'",
        "type": "invalid_request_error",
        "param": "training_file",
        "code": "file_not_found",
    }
