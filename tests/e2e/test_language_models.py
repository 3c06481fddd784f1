import io
import json
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.catalog.tasks import TASKS
from tests.e2e.conftest import wait
from tests.e2e.test_artifacts import run_job

pytestmark = pytest.mark.e2e

TEXTS = "\n\n".join(row["text"] for row in TASKS["fill-mask"].variants[0].example).encode()
CHATS = "".join(json.dumps(row) + "\n" for row in TASKS["text-generation"].variants[0].example).encode()


def upload(http: httpx.Client, name: str, content: bytes) -> str:
    return http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)}).json()["id"]


def trained(http: httpx.Client, model: str, file: str, **request: Any) -> dict[str, Any]:
    asked = {"model": model, "training_file": file, "validation_file": file, "seed": 3}
    job = run_job(http, asked | {"hyperparameters": {"n_epochs": 1, "batch_size": 8}} | request)
    assert job["status"] == "succeeded", job["error"]
    return job


def test_the_model_settles_what_a_file_of_plain_text_is_for(http: httpx.Client) -> None:
    file = upload(http, "texts.txt", TEXTS)

    def told(model: str) -> dict[str, Any]:
        job = http.post("/v1/fine_tuning/jobs", json={"model": model, "training_file": file}).json()

        def look() -> dict[str, Any] | None:
            found = http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
            return None if found["status"] == "validating_files" else found["task"]

        task = wait(look)
        http.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel").raise_for_status()
        return task

    assert told("local/tiny")["type"] == "fill-mask"
    task = told("local/tiny-decoder")
    assert (task["type"], task["format"]) == ("text-generation", "text")


def test_chats_train_a_model_that_answers_in_its_own_template(http: httpx.Client, tmp_path: Path) -> None:
    job = trained(http, "local/tiny-decoder", upload(http, "chats.jsonl", CHATS))
    assert (job["task"]["type"], job["task"]["format"]) == ("text-generation", "chat")
    assert set(job["metrics"]["before_training"]) == {"perplexity", "token_accuracy", "loss"}
    rows = http.get(f"/v1/fine_tuning/jobs/{job['id']}/metrics?name=perplexity").json()
    assert {row["step"] for row in rows} == {0, 1}
    archive = http.get(f"/v1/models/{job['fine_tuned_model']}/archive").raise_for_status()
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        tar.extractall(tmp_path, filter="data")
    directory = next(tmp_path.rglob("config.json")).parent

    from transformers import pipeline

    generate: Any = pipeline("text-generation", model=str(directory), device="cpu")
    answer = generate([{"role": "user", "content": "Does it need a GPU?"}], max_new_tokens=4)
    assert answer[0]["generated_text"][-1]["role"] == "assistant"


def test_a_model_of_the_wrong_kind_is_named_with_those_that_fit(http: httpx.Client) -> None:
    file = upload(http, "chats.jsonl", CHATS)
    request = {"model": "local/tiny", "training_file": file, "task": {"type": "text-generation"}}
    error = http.post("/v1/fine_tuning/jobs", json=request).json()["error"]
    assert error["code"] == "model_does_not_fit_task"
    assert "gpt2" in error["allowed"]
