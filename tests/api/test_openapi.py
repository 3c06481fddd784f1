"""The OpenAPI document: whole, described, and with examples that work."""

import re
from typing import Any

import jsonschema
import pytest
from fastapi import FastAPI

from app.api.schemas.jobs import FULL, MINIMAL, JobCreate
from app.catalog.hyperparameters import Hyperparameters
from app.catalog.methods import METHODS
from app.catalog.tasks import TASKS
from tests.api.scenery import Scenery

ENDPOINTS = {
    ("post", "/v1/files"),
    ("get", "/v1/files"),
    ("get", "/v1/files/{file_id}"),
    ("delete", "/v1/files/{file_id}"),
    ("get", "/v1/files/{file_id}/content"),
    ("get", "/v1/files/{file_id}/report"),
    ("post", "/v1/uploads"),
    ("get", "/v1/uploads/{upload_id}"),
    ("post", "/v1/uploads/{upload_id}/parts"),
    ("get", "/v1/uploads/{upload_id}/parts"),
    ("post", "/v1/uploads/{upload_id}/complete"),
    ("post", "/v1/uploads/{upload_id}/cancel"),
    ("post", "/v1/fine_tuning/jobs"),
    ("get", "/v1/fine_tuning/jobs"),
    ("get", "/v1/fine_tuning/jobs/{job_id}"),
    ("post", "/v1/fine_tuning/jobs/{job_id}/cancel"),
    ("post", "/v1/fine_tuning/jobs/{job_id}/pause"),
    ("post", "/v1/fine_tuning/jobs/{job_id}/resume"),
    ("get", "/v1/fine_tuning/jobs/{job_id}/events"),
    ("get", "/v1/fine_tuning/jobs/{job_id}/checkpoints"),
    ("get", "/v1/fine_tuning/jobs/{job_id}/metrics"),
    ("get", "/v1/fine_tuning/jobs/{job_id}/report"),
    ("post", "/v1/evaluations"),
    ("get", "/v1/evaluations"),
    ("get", "/v1/evaluations/compare"),
    ("get", "/v1/evaluations/{evaluation_id}"),
    ("post", "/v1/evaluations/{evaluation_id}/cancel"),
    ("get", "/v1/evaluations/{evaluation_id}/events"),
    ("post", "/v1/models"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{model}"),
    ("delete", "/v1/models/{model}"),
    ("get", "/v1/models/{model}/files"),
    ("get", "/v1/models/{model}/files/{path}"),
    ("get", "/v1/models/{model}/archive"),
    ("get", "/v1/webhook_event_types"),
    ("post", "/v1/webhook_endpoints"),
    ("get", "/v1/webhook_endpoints"),
    ("get", "/v1/webhook_endpoints/{endpoint_id}"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}"),
    ("delete", "/v1/webhook_endpoints/{endpoint_id}"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/rotate_secret"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/test"),
    ("get", "/v1/webhook_endpoints/{endpoint_id}/deliveries"),
    ("get", "/v1/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}/replay"),
    ("get", "/v1/catalog"),
    ("get", "/healthz"),
    ("get", "/readyz"),
}


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): item for path, methods in document["paths"].items() for method, item in methods.items()}


def test_every_endpoint_is_there_and_described(document: dict[str, Any]) -> None:
    found = operations(document)

    assert set(found) == ENDPOINTS
    for key, item in found.items():
        assert item["summary"], key
        assert item["description"], key
        for parameter in item.get("parameters", []):
            if parameter["in"] == "query":
                assert parameter.get("description"), (key, parameter["name"])


def test_only_health_needs_no_key(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["API key"]["scheme"] == "bearer"
    open_paths = {path for (_, path), item in operations(document).items() if not item.get("security")}

    assert open_paths == {"/healthz", "/readyz"}


def test_errors_are_documented_in_the_shape_they_have(document: dict[str, Any]) -> None:
    for key, item in operations(document).items():
        for status, response in item["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorResponse"}, (key, status)


def test_every_example_is_valid_against_its_schema(document: dict[str, Any]) -> None:
    checked = 0
    for name, schema in document["components"]["schemas"].items():
        whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        for example in schema.get("examples", []):
            jsonschema.validate(example, whole, cls=jsonschema.Draft202012Validator)
            checked += 1
    assert checked >= 7


def test_what_webhooks_bring_is_documented_beside_the_paths(document: dict[str, Any]) -> None:
    [webhook] = document["webhooks"].values()
    schema = webhook["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert schema == {"$ref": "#/components/schemas/WebhookEvent"}
    assert "HTTPValidationError" not in str(document)
    for signed in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert signed in webhook["post"]["description"]


def test_the_examples_of_a_job_create_jobs(scenery: Scenery) -> None:
    for example in (MINIMAL, FULL):
        JobCreate.model_validate(example)
        named = [name for name in example if name.endswith("_file")]
        uploaded: dict[str, Any] = {name: scenery.upload()["id"] for name in named}
        if "target_files" in example:
            uploaded["target_files"] = [scenery.upload()["id"] for _ in example["target_files"]]
        created = scenery.create_job(**(example | uploaded))
        assert created["status"] == "validating_files"


def test_the_form_of_an_upload_is_documented(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/files"]["post"]["requestBody"]["content"]
    schema = content["multipart/form-data"]["schema"]

    assert set(schema["properties"]) == {"file", "purpose", "task", "columns", "expires_after"}
    assert schema["required"] == ["file", "purpose"]
    assert schema["properties"]["file"]["format"] == "binary"


def test_the_form_of_a_part_is_documented(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/uploads/{upload_id}/parts"]["post"]["requestBody"]["content"]
    schema = content["multipart/form-data"]["schema"]

    assert set(schema["properties"]) == {"data"} == set(schema["required"])
    assert schema["properties"]["data"]["format"] == "binary"


def test_the_schema_of_a_job_follows_the_catalogue(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert set(schemas["Hyperparameters"]["properties"]) == set(Hyperparameters.model_fields)
    assert set(schemas["Adaptation"]["properties"]) == set(METHODS)
    for spec in TASKS.values():
        assert spec.options.__name__ in schemas


def test_the_catalogue_is_answered_whole(client) -> None:
    catalog = client.get("/v1/catalog").json()

    assert [task["name"] for task in catalog["tasks"]] == list(TASKS)
    assert [method["name"] for method in catalog["methods"]] == list(METHODS)
    assert set(catalog["hyperparameters"]["properties"]) == set(Hyperparameters.model_fields)
    for task in catalog["tasks"]:
        jsonschema.validate({"type": task["name"]}, task["options"])
        for variant in task["variants"]:
            assert variant["example"]
            assert {field["name"] for field in variant["fields"]} >= set(variant["example"][0])
    for method in catalog["methods"]:
        jsonschema.validate(method["example"], method["options"])
    needing = {method["name"] for method in catalog["methods"] if method["needs_target_files"]}
    assert needing == {name for name, spec in METHODS.items() if spec.needs_target} >= {"domain_adversarial"}


def test_the_documentation_page_loads_nothing_from_elsewhere(client) -> None:
    page = client.get("/docs").text

    assert "cdn" not in page
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) == 3
    for address in loaded:
        response = client.get(address)
        assert address.startswith("/docs/assets/")
        assert response.status_code == 200
        assert len(response.content) > 1000
    assert client.get("/docs/assets/nothing.js").json()["error"]["code"] == "unknown_path"


def test_the_document_is_json(client) -> None:
    response = client.get("/openapi.json")

    assert response.json()["openapi"].startswith("3.1")
