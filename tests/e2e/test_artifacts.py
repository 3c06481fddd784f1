import hashlib
import io
import json
import tarfile
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import DATA, wait

pytestmark = pytest.mark.e2e

TINY_JOB = {"model": "local/tiny", "seed": 3, "hyperparameters": {"n_epochs": 2, "batch_size": 32}}


def run_job(http: httpx.Client, request: dict) -> dict:
    job = http.post("/v1/fine_tuning/jobs", json=request).raise_for_status().json()

    def look():
        found = http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
        return found if found["status"] in ("succeeded", "failed", "cancelled") else None

    return wait(look)


def test_a_downloaded_model_gives_the_services_own_numbers(http: httpx.Client, uploaded, tmp_path: Path):
    request = TINY_JOB | {"training_file": uploaded["train"], "test_file": uploaded["test"]}
    job = run_job(http, request)
    assert job["status"] == "succeeded", job["error"]
    model = job["fine_tuned_model"]
    archive = http.get(f"/v1/models/{model}/archive").raise_for_status()
    assert int(archive.headers["content-length"]) == len(archive.content)
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        tar.extractall(tmp_path, filter="data")
    listed = http.get(f"/v1/models/{model}/files").json()["data"]
    for file in listed:
        content = next(tmp_path.rglob(file["path"])).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    directory = next(tmp_path.rglob("config.json")).parent
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["seed"] == 3

    from transformers import pipeline

    classify = pipeline("text-classification", model=str(directory), device="cpu")
    rows = [json.loads(line) for line in (DATA / "test.jsonl").read_text().splitlines()]
    predicted = [answer["label"] for answer in classify([row["text"] for row in rows], batch_size=32, truncation=True)]
    accuracy = sum(label == row["label"] for label, row in zip(predicted, rows, strict=True)) / len(rows)
    assert accuracy == pytest.approx(job["metrics"]["test"]["accuracy"], abs=0.02)


def test_the_same_request_trains_the_same_weights(http: httpx.Client, uploaded):
    request = TINY_JOB | {"training_file": uploaded["train"]}
    weights = set()
    for _ in range(2):
        model = run_job(http, request)["fine_tuned_model"]
        files = http.get(f"/v1/models/{model}/files").json()["data"]
        weights.add(next(file["sha256"] for file in files if file["path"] == "model.safetensors"))
    assert len(weights) == 1


def test_a_checkpoint_and_a_fine_tuned_model_are_base_models_for_the_next_job(http: httpx.Client, uploaded):
    first = run_job(http, TINY_JOB | {"training_file": uploaded["train"]})
    checkpoint = http.get(f"/v1/fine_tuning/jobs/{first['id']}/checkpoints").json()["data"][0]
    for base in (first["fine_tuned_model"], checkpoint["fine_tuned_model_checkpoint"]):
        job = run_job(http, TINY_JOB | {"training_file": uploaded["train"], "model": base})
        assert job["status"] == "succeeded", job["error"]
        assert job["fine_tuned_model"].startswith("ft:local/tiny:default:")


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "jsonl.gz"])
def test_every_format_and_column_mapping_trains(http: httpx.Client, tmp_path: Path, form: str):
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in (DATA / "validation.jsonl").read_text().splitlines()]
    path = tmp_path / f"reviews.{form}"
    if form == "parquet":
        table = pa.table({"opinion": [r["text"] for r in rows], "stars": [int(r["label"] == "positive") for r in rows]})
        pq.write_table(table, path)
    elif form == "jsonl.gz":
        renamed = "".join(json.dumps({"opinion": r["text"], "stars": r["label"] == "positive"}) + "\n" for r in rows)
        path.write_bytes(gzip.compress(renamed.encode()))
    else:
        import csv

        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="," if form == "csv" else "\t")
            writer.writerow(["opinion", "stars"])
            writer.writerows([r["text"], r["label"]] for r in rows)
    columns = {"text": "opinion", "label": "stars"}
    file = http.post(
        "/v1/files",
        data={"purpose": "fine-tune", "columns": json.dumps(columns)},
        files={"file": (path.name, path.read_bytes())},
    ).json()
    job = run_job(http, TINY_JOB | {"training_file": file["id"]})
    assert job["status"] == "succeeded", job["error"]
    report = http.get(f"/v1/files/{file['id']}/report", params={"job": job["id"]}).json()
    assert report["report"]["rows"] == len(rows)
    assert report["model"] == "local/tiny"


def test_a_pickled_base_model_is_refused_by_name(http: httpx.Client, uploaded):
    refused = http.post(
        "/v1/fine_tuning/jobs", json=TINY_JOB | {"model": "local/pickled", "training_file": uploaded["train"]}
    )
    assert refused.status_code == 400
    assert "pytorch_model.bin" in refused.json()["error"]["message"]
