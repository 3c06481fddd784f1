"""A translation job over HTTP: its task and its languages are told from a translation memory."""

import io
import json
import tarfile
from pathlib import Path

import httpx
import pytest

from tests.contract.numbers import number_pairs
from tests.contract.probes import written_by_card
from tests.e2e.test_artifacts import TINY_JOB, run_job

pytestmark = pytest.mark.e2e


def upload(http: httpx.Client, name: str, content: str) -> str:
    file = ("file", (name, content.encode()))
    return http.post("/v1/files", data={"purpose": "fine-tune"}, files=[file]).raise_for_status().json()["id"]


def test_a_translation_memory_trains_a_model_that_writes_as_the_service_did(http: httpx.Client, tmp_path: Path):
    rows = number_pairs(80, seed=2)
    text = '<tuv xml:lang="{}"><seg>{}</seg></tuv>'
    units = "".join(
        f"<tu>{text.format('en-GB', row['source'])}{text.format('de', row['target'])}</tu>\n" for row in rows[:60]
    )
    turned = "".join(
        json.dumps({"translation": {"de": row["target"], "en": row["source"]}}) + "\n" for row in rows[60:]
    )
    request = TINY_JOB | {
        "hyperparameters": TINY_JOB["hyperparameters"] | {"precision": "fp32"},  # in bf16 a text may take another turn
        "training_file": upload(http, "memory.tmx", f"<tmx version='1.4'><header/><body>{units}</body></tmx>"),
        "validation_file": upload(http, "held_out.jsonl", turned),
        "test_file": upload(http, "held_out.jsonl", turned),
    }
    job = run_job(http, request)
    assert job["status"] == "succeeded", job["error"]
    task = job["task"]
    assert (task["type"], task["source_language"], task["target_language"]) == ("translation", "en-GB", "de")
    shown = job["metrics"]["test"]["predictions"]
    assert [(entry["source"], entry["target"]) for entry in shown] == [tuple(row.values()) for row in rows[60:]]
    archive = http.get(f"/v1/models/{job['fine_tuned_model']}/archive").raise_for_status()
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        tar.extractall(tmp_path, filter="data")
    directory = next(tmp_path.rglob("generation_config.json")).parent
    written = written_by_card(directory, "translate", [row["source"] for row in rows[60:]])
    assert written == [entry["prediction"] for entry in shown]
    (model,) = [one for one in http.get("/v1/models").json()["data"] if one["id"] == job["fine_tuned_model"]]
    assert model["task"] == "translation"
