"""`/v1/evaluations`, with the workers' side brought about through the services."""

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI

from app.api.schemas.evaluations import FULL
from app.catalog.measures import Measure, Statistics
from app.db import transaction
from app.files.service import add_result
from app.jobs import leases
from app.jobs.evaluations import STATISTICS
from app.jobs.events import Event
from app.registry import models
from app.registry.base_models import STARTER
from app.registry.models import PublishedFile
from app.storage.blobs import put
from app.tables import Job, WebhookDelivery
from tests.api.scenery import REPORT, Scenery
from tests.api.test_webhooks import PUBLIC

PATH = "/v1/evaluations"
MEASURES = (
    Measure(name="accuracy", form="mean", columns=("right",)),
    Measure(name="f1_macro", form="f1_macro", columns=("truth", "predicted")),
)
LABELS = ("negative", "positive")


def create(scenery: Scenery, model: str | None, file: str, **fields: Any) -> dict[str, Any]:
    response = scenery.client.post(PATH, json={"model": model, "file": file} | fields)
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    return response.json()["error"]


def prepare_all(scenery: Scenery, report: dict[str, Any] = REPORT) -> None:
    with transaction(scenery.sessions) as session:
        waiting = session.query(Job).where(Job.queue == "control", Job.status == "queued").count()
    for _ in range(waiting):
        scenery.prepare(report)


def finish(scenery: Scenery, predicted: list[int], labels: tuple[str, ...] = LABELS) -> str:
    """End the oldest evaluation with these predictions; right is one 0 after each 1."""
    job = scenery.claim("training")
    assert job.lease_token is not None
    truth = np.arange(len(predicted)) % 2
    if labels != LABELS:
        truth = np.array([labels.index(LABELS[label]) for label in truth])
    matrix = np.column_stack([truth, predicted, truth == predicted]).astype(np.float64)
    meaning = Statistics(
        columns=("truth", "predicted", "right"), measures=MEASURES, classes=labels, gold=("truth",), right="right"
    )
    stream = io.BytesIO()
    np.save(stream, matrix)
    blob, rows = put(scenery.blobs, [stream.getvalue()]), put(scenery.blobs, [b'{"row": 1}\n'])
    metrics = {
        "metrics": {"accuracy": float(matrix[:, 2].mean()), "rows": len(predicted)},
        "baseline": {"name": "majority", "description": "Every text is 'negative'.", "values": {"accuracy": 0.5}},
        "slices": None,
        "slices_left_out": None,
        "statistics": meaning.model_dump(mode="json"),
    }
    with transaction(scenery.sessions) as session:
        result = add_result(session, job.project_id, f"{job.id}-predictions.jsonl", rows)
        ended = leases.finish(
            session, job.lease_token, "succeeded", Event("Evaluated"), metrics=metrics, result_files=[result.id]
        )
        assert ended is not None
        models.store_files(session, job.id, [PublishedFile(STATISTICS, blob)])
    return job.id


def evaluated(scenery: Scenery, predicted: list[int], file: str, labels: tuple[str, ...] = LABELS) -> str:
    """A new model, evaluated on a file."""
    model = scenery.succeeded_job(contents={"config.json": b"{}"}).fine_tuned_model
    created = create(scenery, model, file)
    assert finish(scenery, predicted, labels) == created["id"]
    return created["id"]


@pytest.fixture
def model(scenery: Scenery) -> str:
    """A fine-tuned model of two labels."""
    return scenery.succeeded_job(contents={"config.json": b"{}"}, seed=7).fine_tuned_model or ""


def test_from_create_to_result(scenery: Scenery, model: str) -> None:
    file = scenery.upload()["id"]
    created = create(scenery, model, file, metadata={"release": "one"})
    assert (created["object"], created["model"], created["file"]) == ("evaluation", model, file)
    assert created["id"].startswith("eval-")
    assert (created["seed"], created["task"]["type"]) == (7, "text-classification")
    assert created["status"] == "queued"  # the file was read before, in the tokens of the same base model
    assert (created["metrics"], created["result_file"], created["error"]) == (None, None, None)

    assert finish(scenery, [0, 1, 1]) == created["id"]
    found = scenery.client.get(f"{PATH}/{created['id']}").json()
    assert (found["status"], found["metrics"]["rows"], found["baseline"]["name"]) == ("succeeded", 3, "majority")
    content = scenery.client.get(f"/v1/files/{found['result_file']}/content")
    assert content.text == '{"row": 1}\n'
    assert scenery.client.get(f"/v1/files/{found['result_file']}").json()["purpose"] == "fine-tune-results"
    assert scenery.client.get(f"/v1/files/{file}/report", params={"job": created["id"]}).status_code == 200

    events = scenery.client.get(f"{PATH}/{created['id']}/events").json()
    assert {event["object"] for event in events["data"]} == {"evaluation.event"}
    assert all(event["id"].startswith("evalevent-") for event in events["data"])
    assert events["data"][-1]["message"] == f"Created evaluation: {created['id']}"
    assert scenery.client.get(f"/v1/fine_tuning/jobs/{created['id']}").status_code == 404


def test_pages_and_what_they_can_be_narrowed_to(scenery: Scenery, model: str) -> None:
    files = [scenery.upload(filename=f"{number}.jsonl")["id"] for number in range(3)]
    made = [create(scenery, model, file, metadata={"file": file})["id"] for file in files]
    get = scenery.client.get

    first = get(PATH, params={"limit": 2}).json()
    assert ([found["id"] for found in first["data"]], first["has_more"]) == (made[:0:-1], True)
    rest = get(PATH, params={"limit": 2, "after": made[1]}).json()
    assert ([found["id"] for found in rest["data"]], rest["has_more"]) == (made[:1], False)
    for query in ({"file": files[1]}, {"metadata[file]": files[1]}):
        assert [found["id"] for found in get(PATH, params=query).json()["data"]] == [made[1]]
    assert get(PATH, params={"model": STARTER}).json()["data"] == []
    assert len(get(PATH, params={"model": model, "status": "queued"}).json()["data"]) == 3
    assert "succeeded" in refused(get(PATH, params={"status": "paused"}), 400)["allowed"]
    assert get("/v1/fine_tuning/jobs", params={"after": made[0]}).status_code == 404


def test_cancel_and_what_is_in_use_until_then(scenery: Scenery, model: str) -> None:
    file = scenery.upload()["id"]
    created = create(scenery, model, file)
    for path in (f"/v1/files/{file}", f"/v1/models/{model}"):
        error = refused(scenery.client.delete(path), 409)
        assert created["id"] in error["message"]
    cancelled = scenery.client.post(f"{PATH}/{created['id']}/cancel").json()
    assert (cancelled["status"], cancelled["finished_at"] is not None) == ("cancelled", True)
    assert scenery.client.post(f"{PATH}/{created['id']}/cancel").json()["status"] == "cancelled"
    assert scenery.client.delete(f"/v1/models/{model}").status_code == 200
    assert scenery.client.delete(f"/v1/files/{file}").status_code == 200
    assert scenery.client.get(f"{PATH}/{created['id']}").json()["model"] == model

    assert refused(scenery.client.post(f"{PATH}/eval-0/cancel"), 404)["code"] == "evaluation_not_found"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": "ft:nothing"}, "model_not_found", "model"),
        ({"file": "file-0"}, "file_not_found", "file"),
        ({"slices": 1}, "unknown_field", "slices"),
        ({"task": {"type": "token-classification"}}, "model_of_other_task", "task.type"),
        ({"columns": {"txt": "a"}}, "unknown_field", "columns.txt"),
        ({"slice_by": {"type": "colum"}}, "invalid_value", "slice_by.type"),
        ({"slice_by": {"type": "column"}}, "missing_field", "slice_by.column"),
        ({"slice_by": {"type": "length", "bins": 1}}, "invalid_value", "slice_by.bins"),
        ({"seed": -1}, "invalid_value", "seed"),
    ],
)
def test_what_is_refused_names_the_field(
    scenery: Scenery, model: str, fields: dict[str, Any], code: str, param: str
) -> None:
    body = {"model": model, "file": scenery.upload()["id"]} | fields
    error = refused(scenery.client.post(PATH, json=body), 400)
    assert (error["code"], error["param"]) == (code, param)


def test_labels_that_the_model_does_not_know_are_told_before_a_worker_is_taken(scenery: Scenery, model: str) -> None:
    file = scenery.upload(b'{"text": "so", "label": "neutral"}\n', "neutral.jsonl")["id"]
    report = REPORT | {"labels": {"neutral": 40, "positive": 2}}
    created = create(scenery, model, file)
    assert created["status"] == "validating_files"
    prepare_all(scenery, report)
    found = scenery.client.get(f"{PATH}/{created['id']}").json()
    assert (found["status"], found["error"]["code"], found["error"]["param"]) == ("failed", "unknown_labels", "file")
    assert "'neutral' (40)" in found["error"]["message"]
    assert "It knows: 'negative', 'positive'" in found["error"]["message"]


def test_a_webhook_tells_of_its_end(scenery: Scenery, model: str) -> None:
    endpoint = {"name": "Board", "url": PUBLIC, "event_types": ["evaluation.cancelled"]}
    assert scenery.client.post("/v1/webhook_endpoints", json=endpoint).status_code == 200
    created = create(scenery, model, scenery.upload()["id"])
    scenery.client.post(f"{PATH}/{created['id']}/cancel")
    with transaction(scenery.sessions) as session:
        [event] = [json.loads(row.body) for row in session.query(WebhookDelivery)]
    assert (event["type"], event["data"]) == ("evaluation.cancelled", {"id": created["id"]})


def test_one_request_makes_one_evaluation(scenery: Scenery, model: str) -> None:
    body = {"model": model, "file": scenery.upload()["id"]}
    headers = {"idempotency-key": "once"}
    ids = {scenery.client.post(PATH, json=body, headers=headers).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    other = scenery.client.post(PATH, json=body | {"seed": 1}, headers=headers)
    assert refused(other, 409)["code"] == "idempotency_key_reuse"


def test_the_example_is_accepted(scenery: Scenery, model: str) -> None:
    file = scenery.upload(b'{"review": "good", "sentiment": "positive", "domain": "film"}\n', "full.jsonl")["id"]
    made = create(scenery, **(FULL | {"model": model, "file": file}))
    assert (made["slice_by"], made["seed"]) == ({"type": "column", "column": "domain"}, 13)


def test_a_better_model_is_told_from_a_worse_one(scenery: Scenery) -> None:
    file = scenery.upload()["id"]
    right = [row % 2 for row in range(200)]
    worse = evaluated(scenery, [1 - label if row % 3 == 0 else label for row, label in enumerate(right)], file)
    # The better one knows its labels in another order, and was evaluated on an upload of the same bytes.
    better = evaluated(scenery, [1 - label for label in right], scenery.upload()["id"], LABELS[::-1])
    get = scenery.client.get

    found = get(f"{PATH}/compare", params={"a": worse, "b": better}).json()
    assert (found["object"], found["rows"], found["metric"]) == ("evaluation.comparison", 200, "f1_macro")
    assert (found["significant"], found["better"]) == (True, "b")
    assert found["verdict"].startswith("The difference is real: b (ft:")
    accuracy = found["metrics"][0]
    assert (accuracy["a"], accuracy["b"]) == (pytest.approx(133 / 200), 1)
    assert accuracy["p_value"] == pytest.approx(1 / 10_001)
    assert accuracy["interval"][0] < accuracy["difference"] < accuracy["interval"][1]
    assert found["mcnemar"] == {"only_a_right": 0, "only_b_right": 67, "p_value": pytest.approx(2 * 0.5**67)}
    assert get(f"{PATH}/compare", params={"a": worse, "b": better}).json() == found

    turned = get(f"{PATH}/compare", params={"a": better, "b": worse, "metric": "accuracy", "seed": 3}).json()
    assert (turned["better"], turned["metric"], turned["seed"]) == ("a", "accuracy", 3)

    close = evaluated(scenery, [1 - label if row % 3 == 2 else label for row, label in enumerate(right)], file)
    unsure = get(f"{PATH}/compare", params={"a": worse, "b": close}).json()
    assert (unsure["significant"], unsure["better"]) == (False, None)
    assert unsure["verdict"].startswith("No real difference between")
    assert refused(get(f"{PATH}/compare", params={"a": worse, "b": close, "metric": "f1"}), 400)["allowed"] == [
        "accuracy",
        "f1_macro",
    ]


def test_what_cannot_be_compared_names_both(scenery: Scenery, model: str) -> None:
    file = scenery.upload()["id"]
    done = evaluated(scenery, [0, 1], file)
    waiting = create(scenery, model, file)["id"]
    get = scenery.client.get

    error = refused(get(f"{PATH}/compare", params={"a": done, "b": waiting}), 409)
    assert error["code"] == "evaluation_not_succeeded"
    assert f"{done} is succeeded" in error["message"]
    assert f"{waiting} is queued" in error["message"]
    scenery.client.post(f"{PATH}/{waiting}/cancel")

    elsewhere = scenery.upload(b'{"text": "fine", "label": "positive"}\n', "other.jsonl")["id"]
    prepare_all(scenery)
    other = evaluated(scenery, [0, 1], elsewhere)
    error = refused(get(f"{PATH}/compare", params={"a": done, "b": other}), 400)
    assert (error["code"], error["param"]) == ("different_files", "b")
    assert all(name in error["message"] for name in (done, other, file, elsewhere))

    longer = evaluated(scenery, [0, 1, 0], file)
    error = refused(get(f"{PATH}/compare", params={"a": done, "b": longer}), 400)
    assert error["code"] == "different_rows"

    with transaction(scenery.sessions) as session:
        job = session.get_one(Job, longer)
        job.spec = job.spec | {"task": {"type": "question-answering"}}
    error = refused(get(f"{PATH}/compare", params={"a": done, "b": longer}), 400)
    assert error["code"] == "different_tasks"
    assert "question-answering" in error["message"]

    assert refused(get(f"{PATH}/compare", params={"a": done}), 400)["param"] == "b"
    assert refused(get(f"{PATH}/compare", params={"a": done, "b": "eval-0"}), 404)["code"] == "evaluation_not_found"


def test_the_sdk_reaches_it(sdk: OpenAI, over_http: Scenery) -> None:
    model = over_http.succeeded_job(contents={"config.json": b"{}"}).fine_tuned_model
    file = over_http.upload()["id"]
    body = {"model": model, "file": file}
    made: dict[str, Any] = sdk.post("/evaluations", body=body, cast_to=object)  # type: ignore[assignment]
    stream = f"/v1/evaluations/{made['id']}/events?stream=true"
    finish(over_http, [0, 1])
    found: dict[str, Any] = sdk.get(f"/evaluations/{made['id']}", cast_to=object)  # type: ignore[assignment]
    assert found["status"] == "succeeded"
    with over_http.client.stream("GET", stream) as response:
        text = response.read().decode()
    assert text.endswith("event: done\ndata: [DONE]\n\n")
    progress = [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if '"evaluation.progress"' in line
    ]
    assert [(item["evaluation_id"], item["status"]) for item in progress] == [(made["id"], "succeeded")]
    assert '"object":"evaluation.event"' in text
